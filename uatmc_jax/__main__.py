"""All commands under one name: `uatmc train` is `python -m uatmc_jax.train`."""

import ast
import difflib
import importlib.util
import os
import pathlib
import runpy
import sys

from uatmc_jax.errors import InputError
from uatmc_jax.pipes import to_a_reader

COMMANDS = {
    "data": "what is in a data set; writes the synthetic one",
    "prepare": "a data set from raw reviews, or from tables, images and texts of your own",
    "train": "trains a recommender, hardens it, evaluates it",
    "attack": "how far a trained model's items can be promoted, and how far not",
    "edit": "edits pictures and titles of one's own items, and counts who would see them",
    "audit": "all of it on a catalogue, as one report",
    "convert": "weights from and to other formats",
}
_EXAMPLES = """\
  uatmc train --config synthetic_vbpr
  uatmc attack --workdir runs/synthetic_vbpr
  uatmc train --data data/shop
  uatmc COMMAND --help"""


def main(argv: list[str] | None = None) -> None:
    """Runs the command that the arguments name.

    Args:
      argv: the arguments; by default the process's.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        with to_a_reader():
            print(_usage())
        return
    command, *rest = arguments
    try:
        name = _module(command)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"uatmc {command}", *rest]
    sys.path.insert(0, os.getcwd())  # as `python -m` does: models of your own are found there
    # absl's --help prints the main module's.
    sys.modules["__main__"].__doc__ = _docstring(name)
    runpy.run_module(name, run_name="__main__")


def _usage() -> str:
    commands = "\n".join(f"  {name:<9}{said}" for name, said in COMMANDS.items())
    return f"usage: uatmc COMMAND [ARGUMENTS]\n\n{commands}\n\nexamples:\n{_EXAMPLES}"


def _module(command: str) -> str:
    """The module that a command runs."""
    if command in COMMANDS:
        name = f"uatmc_jax.{command}"
        package = importlib.util.find_spec(name).submodule_search_locations is not None
        return f"{name}.__main__" if package else name
    close = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else f"Commands: {', '.join(COMMANDS)}."
    raise InputError(f"{command}: no such command. {hint}")


def _docstring(name: str) -> str | None:
    source = pathlib.Path(str(importlib.util.find_spec(name).origin)).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source))


if __name__ == "__main__":
    main()
