"""Mistakes in the settings, found before any work."""

import pathlib
import re

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.amazon import check_image_size
from uatmc_jax.preparation.core import SPLIT_RULES
from uatmc_jax.preparation.generic import text_columns
from uatmc_jax.preparation.settings import GenericSettings, Settings


def check(settings: Settings) -> None:
    """Refuses what can be known to be wrong before anything is read.

    Raises:
      InputError: a file that is not there or not of its kind, or settings that
        do not go together.
    """
    if not re.fullmatch(r"\w[\w.-]{0,99}", settings.name):
        raise InputError(
            f"--name: {settings.name!r} is not letters, digits and . _ - alone, at most 100. Give "
            "such a name."
        )
    for name, value in vars(settings).items():
        flag = "--" + name.replace("_", "-")
        if name == "images":
            if value is not None and not value.is_dir():
                raise InputError(f"{flag} {value}: no such folder.")
        elif name != "out" and isinstance(value, pathlib.Path) and not value.is_file():
            raise InputError(f"{flag} {value}: no such file. Check the path.")
    _exclude(settings, "text_encoder", "text_features")
    if settings.split not in SPLIT_RULES:
        raise InputError(
            f"--split: {settings.split!r} is none of {', '.join(SPLIT_RULES)}. Give one of them."
        )
    if isinstance(settings, GenericSettings):
        _check_generic(settings)
    elif settings.image_features:
        check_image_size(settings.image_features)


def _check_generic(settings: GenericSettings) -> None:
    _exclude(settings, "images", "image_features")
    _need_together(settings, "items", "id_column")
    _need_together(settings, "images", "image_encoder")
    for name in (
        "title_column",
        "brand_column",
        "category_column",
        "text_columns",
        "image_column",
        "text_encoder",
        "text_features",
        "image_features",
    ):
        if getattr(settings, name) and settings.items is None:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} needs the items' table. Give --items and --id-column.")
    if settings.image_column and settings.images is None:
        raise InputError("--image-column needs the images' folder. Give --images.")
    _need(settings, "min_rating", "rating_column")
    if settings.split != "random":
        _exclude(settings, "split", "split_column")
        _need(settings, "split", "time_column")
    _need(settings, "item_columns", "items")
    if settings.text_encoder and not text_columns(settings):
        raise InputError("--text-encoder needs something to read. Give --text-columns.")


def _exclude(settings: Settings, first: str, second: str) -> None:
    if getattr(settings, first) and getattr(settings, second):
        flags = (f"--{name.replace('_', '-')}" for name in (first, second))
        raise InputError(f"{' and '.join(flags)} exclude each other. Give one of them.")


def _need(settings: Settings, name: str, other: str) -> None:
    if getattr(settings, name) not in (None, ()) and not getattr(settings, other):
        flags = [f"--{name.replace('_', '-')}" for name in (name, other)]
        raise InputError(f"{flags[0]} needs {flags[1]}. Give both.")


def _need_together(settings: Settings, *names: str) -> None:
    if len({bool(getattr(settings, name)) for name in names}) > 1:
        flags = (f"--{name.replace('_', '-')}" for name in names)
        raise InputError(f"{' and '.join(flags)} need each other. Give both, or neither.")
