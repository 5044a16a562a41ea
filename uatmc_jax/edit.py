r"""Edits pictures and titles of one's own items and counts who would see them.

python -m uatmc_jax.edit --workdir runs/shop_vbpr --images photos --items items.csv
python -m uatmc_jax.edit --workdir runs/shop_vbpr --images photos --ids a7,a9 --radii 1,2,4
"""

import argparse
import math
import pathlib
import re
import sys
from typing import NoReturn

from uatmc_jax.cli import Parser, start_parsed
from uatmc_jax.edits import EditSettings, WordSearch, format_edits, run_edits
from uatmc_jax.edits.pixels import SEARCHES
from uatmc_jax.opened import open_run
from uatmc_jax.store import write_text

_EXAMPLE = """example:
  python -m uatmc_jax.edit --workdir runs/shop_vbpr --images photos --items items.csv"""


def main(argv: list[str] | None = None) -> NoReturn:
    """Arguments in, one library call, files out."""
    start_parsed(_make_parser(), _run, "the same command goes on with the next target", argv)


def _run(arguments: argparse.Namespace) -> None:
    values = vars(arguments)
    workdir, checkpoint, root = (values.pop(n) for n in ("workdir", "checkpoint", "data_root"))
    words = WordSearch(max_words=values.pop("max_words"))
    settings = EditSettings(words=words, **values)
    run = open_run(workdir, checkpoint, data_root=root)
    result = run_edits(settings, run)
    text = format_edits(result)
    write_text(pathlib.Path(result["folder"]) / "table.md", text)
    print(text)
    print(f"written to {result['folder']}", file=sys.stderr)


def _make_parser() -> Parser:
    parser = Parser(prog="uatmc edit", description=__doc__, epilog=_EXAMPLE)
    add = parser.add_argument
    add("--workdir", required=True, help="folder of the training run")
    add("--checkpoint", default="", help="STAGE/WHICH; by default the last that the run reports")
    add("--data_root", help="folder of the data sets, if not where the run found them")
    add("--images", type=pathlib.Path, help="folder of the pictures the data was prepared from")
    add("--items", type=pathlib.Path, help="table of the items it was prepared from")
    add("--column", default="", help="whose text is edited; by default the title's")
    add("--ids", type=_names, default=(), help="shop's ids, titles or '#908', with commas between")
    add("--sample", type=_count, default=10, help="how many of the less popular half (10); 0: all")
    add("--seed", type=_count, default=0, help="of the draw (0)")
    add("--k", type=_count, default=20, help="of the hit rate (20)")
    add("--serving", choices=("own_row", "full"), default="full", help="what is made anew (full)")
    add("--radii", type=_radii, default=(4.0, 8.0), help="of the pixels' balls, in 255ths (4,8)")
    add("--norm", choices=("linf", "l2"), default="linf", help="of these balls (linf)")
    add("--search", choices=tuple(SEARCHES), default="pgd", help="of the pixels (pgd)")
    add("--steps", type=_count, default=16, help="on the pixels in the smallest ball (16)")
    add("--robust", action="store_true", help="seek pixels that outlast JPEG, resizing, a crop")
    add("--rounds", type=_count, default=1, help="of the coordinated search (1)")
    add("--max-words", type=_count, default=3, help="new words in a title (3)")
    add("--synonyms", type=pathlib.Path, help="folder of WordNet's files: no other replacements")
    add("--any-word", action="store_true", help="put in any word of the encoder's, not sellers'")
    add("--yardstick", type=_count, default=50, help="items whose harmless edits are measured (50)")
    return parser


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _radii(value: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in value.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(math.isfinite(radius) for radius in found):
        raise argparse.ArgumentTypeError(f"{value!r} is no list of numbers, as in 1,2,4")
    return found


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number")
    return int(value)


if __name__ == "__main__":
    main()
