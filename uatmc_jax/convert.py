"""Weights from MMRec's PyTorch checkpoints, and from and to safetensors files.

python -m uatmc_jax.convert mmrec CHECKPOINT.pth --config baby_vbpr --workdir runs/imported
python -m uatmc_jax.convert export --workdir runs/baby_vbpr --out model.safetensors
python -m uatmc_jax.convert import model.safetensors --workdir runs/imported

What is imported is a run like a trained one:

python -m uatmc_jax.attack --workdir runs/imported
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import NoReturn

from uatmc_jax import checkpoint
from uatmc_jax.cli import Parser, start_parsed
from uatmc_jax.conversion import Imported, export_run, import_file, import_mmrec
from uatmc_jax.errors import InputError
from uatmc_jax.settings import from_config, load_config


def main(argv: list[str] | None = None) -> NoReturn:
    """Arguments in, one library call, files out."""
    go_on = "nothing is written; the same command starts again"
    start_parsed(_make_parser(), lambda arguments: arguments.run(arguments), go_on, argv)


def _make_parser() -> Parser:
    whole = Parser(description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    mmrec = _command(
        commands,
        "mmrec",
        _from_mmrec,
        "a model from a PyTorch checkpoint",
        "Makes a run of a checkpoint (.pth) of VBPR or MMGCN as published with UAT-MC, or of\n"
        "MMRec's VBPR, LightGCN, FREEDOM, BM3, MGCN, LATTICE, LGMRec or DRAGON. Only tensors are\n"
        "read; no code in the file is run. Hyper-parameters are read off the weights; those that\n"
        "these do not tell (layers, neighbours) are the config's.\n"
        "Needs: pip install 'uatmc_jax[torch]'",
        "uatmc convert mmrec VBPR.pth --config baby_vbpr --workdir runs/imported",
    )
    mmrec.add_argument("file", metavar="CHECKPOINT.pth")
    mmrec.add_argument("--config", required=True, help="NAME or FILE of the config; its data")
    mmrec.add_argument("--data_root", metavar="DIR", help="replaces config.data.root")
    mmrec.add_argument("--workdir", required=True, metavar="DIR", help="the run's new folder")
    export = _command(
        commands,
        "export",
        _export,
        "a run's checkpoint as a safetensors file",
        "Writes a checkpoint as one file. Needs: pip install 'uatmc_jax[safetensors]'",
        "uatmc convert export --workdir runs/baby_vbpr --checkpoint adversarial/latest \\\n"
        "      --out model.safetensors",
    )
    export.add_argument("--workdir", required=True, metavar="DIR", help="the run's folder")
    export.add_argument(
        "--checkpoint",
        metavar="STAGE/WHICH",
        help="by default adversarial/best; pretrain/best of a run without that stage",
    )
    export.add_argument("--out", required=True, metavar="FILE", help="must not be there")
    imported = _command(
        commands,
        "import",
        _from_file,
        "a run from an exported file",
        "Makes a run of an exported file, after checking that the data are the same.\n"
        "Needs: pip install 'uatmc_jax[safetensors]'",
        "uatmc convert import model.safetensors --workdir runs/imported --data_root data",
    )
    imported.add_argument("file", metavar="FILE.safetensors")
    imported.add_argument("--data_root", metavar="DIR", help="where the data sets are now")
    imported.add_argument("--workdir", required=True, metavar="DIR", help="the run's new folder")
    return whole


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], None],
    said: str,
    description: str,
    example: str,
) -> Parser:
    one = commands.add_parser(
        name, help=said, description=description, epilog=f"example:\n  {example}"
    )
    one.set_defaults(run=run)
    return one


def _from_mmrec(arguments: argparse.Namespace) -> None:
    settings = from_config(load_config(arguments.config))
    if arguments.data_root is not None:
        data = dataclasses.replace(settings.data, root=arguments.data_root)
        settings = dataclasses.replace(settings, data=data)
    _show(import_mmrec(arguments.file, settings, arguments.workdir), arguments.workdir)


def _from_file(arguments: argparse.Namespace) -> None:
    _show(import_file(arguments.file, arguments.workdir, arguments.data_root), arguments.workdir)


def _export(arguments: argparse.Namespace) -> None:
    stage, slash, which = (arguments.checkpoint or _default(arguments.workdir)).partition("/")
    if not slash:
        raise InputError(f"--checkpoint {stage}: wanted STAGE/WHICH, as in adversarial/latest.")
    meta = export_run(arguments.workdir, stage, which, arguments.out)
    print(f"{meta['settings']['model']['name']}, {stage}/{which}, epoch {meta['epoch']}")
    print(f"written to {arguments.out}", file=sys.stderr)


def _default(workdir: str) -> str:
    hardened = checkpoint.saved_epoch(pathlib.Path(workdir), "adversarial", "best") is not None
    return "adversarial/best" if hardened else "pretrain/best"


def _show(imported: Imported, workdir: str) -> None:
    print(f"{imported.settings.model.name} on {imported.meta['dataset']['name']}, as pretrain/best")
    for field, (before, after) in imported.changed.items():
        print(f"  config.{field} = {after!r}, to fit the weights; the config has {before!r}")
    print(f"written to {workdir}", file=sys.stderr)


if __name__ == "__main__":
    main()
