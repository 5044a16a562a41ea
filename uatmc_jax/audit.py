"""Audits a catalogue: how good its recommender is, how far it can be fooled, what hardening costs.

python -m uatmc_jax.audit                         # the embedded synthetic data
python -m uatmc_jax.audit --data data/baby        # a folder of your own, see uatmc_jax.prepare
python -m uatmc_jax.audit --data data/baby --config audit:mmgcn
python -m uatmc_jax.audit --victim runs/baby_vbpr --checkpoint adversarial/latest
python -m uatmc_jax.audit --data data/shop --edits --images photos --items items.csv
"""

import dataclasses
import os
import pathlib
import shlex
import sys

from absl import flags
from ml_collections import config_flags

from uatmc_jax import checkpoint
from uatmc_jax.auditing.entries import Given
from uatmc_jax.auditing.run import REPORT_FILE, run_audit
from uatmc_jax.cli import data_at, start
from uatmc_jax.edits import EditSettings
from uatmc_jax.errors import InputError
from uatmc_jax.report.text import number, percent
from uatmc_jax.settings import AuditSettings, from_config_flag

_DATA = flags.DEFINE_string("data", None, "Folder of the data set: an .inter file and features.")
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The audit, by default audit; audit:mmgcn, audit:freedom or audit:quick for that preset.",
    # A field that the config lacks may be its model's; reading the settings refuses the rest.
    lock_config=False,
    accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where to write; by default runs/audit_NAME.")
_VICTIM = flags.DEFINE_string(
    "victim", None, "Folder of a training run to audit in place of training; attacks go there too."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "pretrain/best", "STAGE/WHICH of --victim.")
_HARDEN = flags.DEFINE_bool("harden", True, "Also harden, and audit what comes out.")
_EDITS = flags.DEFINE_bool(
    "edits", False, "Also edit a handful of real --images and titles of --items (extra edits)."
)
_IMAGES = flags.DEFINE_string("images", None, "With --edits: folder of the pictures.")
_ITEMS = flags.DEFINE_string("items", None, "With --edits: table of the items.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Trainings of everything, each under its own seed.")


_EDITED, _YARDSTICK = 5, 20


def main(argv: list[str]) -> None:
    """Flags in, one library call, files out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    settings, _ = from_config_flag(AuditSettings, _CONFIG)
    if _DATA.value:
        data = data_at(settings.experiment.data, _DATA.value)
        experiment = dataclasses.replace(settings.experiment, data=data)
        settings = dataclasses.replace(settings, experiment=experiment)
    if not _HARDEN.value:
        settings = dataclasses.replace(settings, harden={})
    given, name = None, f"audit_{settings.experiment.data.name}"
    if _VICTIM.value:
        stage, which = checkpoint.parse(_CHECKPOINT.value, "--checkpoint")
        given = Given(pathlib.Path(_VICTIM.value), f"{stage}/{which}")
        parts = [*pathlib.Path(os.path.abspath(_VICTIM.value)).parts[-3:], stage, which]
        name = "_".join(["audit_of", *(part for part in parts if part not in ("/", "runs"))])
    workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / name)
    command = shlex.join(["python", "-m", "uatmc_jax.audit", *sys.argv[1:]])
    options = {"edits": _edits(), "command": command, "seeds": _SEEDS.value}
    audit = run_audit(settings, workdir, given=given, **options)
    print(_headline(audit))
    print(f"written to {workdir / REPORT_FILE}", file=sys.stderr)


def _edits() -> EditSettings | None:
    """A handful of items: what it takes for a page, not for a mean."""
    sources = {
        name: pathlib.Path(flag.value)
        for name, flag in (("images", _IMAGES), ("items", _ITEMS))
        if flag.value
    }
    if not _EDITS.value:
        if sources:
            raise InputError(f"--{next(iter(sources))}: is for --edits. Give that too, or neither.")
        return None
    return EditSettings(sample=_EDITED, yardstick=_YARDSTICK, **sources)


def _headline(audit: dict) -> str:
    """The audit in a line a model."""
    k = audit["k"]
    lines = [f"note: {warning}" for warning in audit["warnings"]]
    lines.append(f"popularity: recall@20 {audit['popularity']['test']:.4f}")
    for entry in audit["entries"]:
        suite, use = entry["verdict"]["suite"][f"hr@{k}"], entry["content"]["test"]
        rates = " -> ".join(percent(suite[when]["value"]) for when in ("before", "after"))
        contribution, attacked = use["all"]["contribution"], use["attacked"]
        mark = "  (recommended)" if entry["name"] == audit["recommended"] else ""
        lines.append(
            f"{entry['name']}: recall@20 {entry['recall']['test']['value']:.4f}, contribution of "
            f"content {number(contribution)}; "
            f"{attacked['hits']['own']} of {attacked['interactions']:,} interactions found with "
            f"items as popular as those attacked; HR@{k} {rates}{mark}"
        )
    if audit["recommended"] is None and len(audit["entries"]) > 1:
        for entry in audit["entries"][1:]:
            lines.append(f"{entry['name']} is not recommended: {'; '.join(entry['objections'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    start(main, "the same command goes on with what is written", {"config": "audit"})
