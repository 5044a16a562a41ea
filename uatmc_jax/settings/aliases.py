"""Names and shapes that settings had before, so that old runs, rows and digests stay readable.

What is read goes through `with_new_names`; what a digest is made of, and so the name of a
file or folder, through `as_recorded`: it is as the first version wrote it, for ever.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from uatmc_jax.errors import InputError
from uatmc_jax.models import ModelSettings, OwnModelSettings, find_model
from uatmc_jax.models.own import OPTIONS

# {settings: {former name: name}}
RENAMED: dict[str, dict[str, str]] = {
    "AdversarialSettings": {"content": "content_weight", "train_output": "train_projector_head"},
    "AttackRunSettings": {"path": "scorer"},
    "AuditSettings": {"beside": "other_threats"},
    "Board": {"together": "vmapped"},
    "Plan": {"together": "vmapped"},
}
# The same of results and of a scoreboard's rows.
RESULT = {"linear": "affine_in_content", "content_utility": "sensitivity"}
# {settings: {field: the settings that each of its named entries has fields of}}
ENTRIES = {
    "AuditSettings": {"harden": "AdversarialSettings"},
    "Board": {"entries": "AdversarialSettings"},
}
# {settings: fields that came after the first runs; where they are missing they have defaults}
ADDED: dict[str, tuple[str, ...]] = {
    "AdversarialSettings": (
        "content_weight",
        "modalities",
        "ramp_epochs",
        "train_projector_head",
    ),
    "Attack": ("search", "surrogate"),
}
_ONE_DEVICE = {"devices": 1, "row_multiple": 64, "features": "float32"}
# {settings: {field that came later still: the default that stands for what was done before}}.
# With its default a field is in no digest, so that what was computed before is found.
LATER: dict[str, dict[str, Any]] = {
    "AdversarialSettings": {
        "align_over": "rows",
        "detach_align": False,
        "leak": False,
        "swap_modalities": False,
        "harmless": "",
        "eps_tail": 0.0,
        "content_tail": 0.0,
    },
    "AttackRunSettings": {
        "redraw": False,
        "permutations": 20,
        "mesh": _ONE_DEVICE,
        "serving": "full",
        "collateral": False,
    },
    "CheckpointSettings": {"keep_every": 0, "chunk_steps": 0},
    "EvalSettings": {"sample": 0},
    "LATTICESettings": {"trained_features": False},
    "MGCNSettings": {"trained_features": False},
    "MeshSettings": {"features": "float32"},
    "OptimizerSettings": {"rows": "dense", "shuffle": "sort"},
    "PretrainSettings": {"mu_warmup_epochs": 0},
    "Settings": {"mesh": _ONE_DEVICE},
    "TargetSettings": {"file": ""},
}


def with_new_names(kind: type, values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A section's values under the names that its settings have now.

    >>> from uatmc_jax.settings import AttackRunSettings
    >>> with_new_names(AttackRunSettings, {"path": "auto"}, "config")
    {'scorer': 'auto'}

    Args:
      kind: the settings dataclass.
      values: of one section; the sections in it are left as they are.
      path: the section's name, for an error.

    Raises:
      InputError: a field under its former name and its present one.
    """
    found = _rename(values, RENAMED.get(kind.__name__, {}), path)
    for field, entry in ENTRIES.get(kind.__name__, {}).items():
        if isinstance(found.get(field), Mapping):
            found[field] = {
                name: _rename(fields, RENAMED[entry], f"{path}.{field}.{name}")
                if isinstance(fields, Mapping)
                else fields
                for name, fields in found[field].items()
            }
    return found


def model_section(values: Mapping[str, Any]) -> tuple[type[ModelSettings], dict[str, Any]]:
    """The settings that a `model` section is of, and the values to read into them.

    Args:
      values: of the section.

    Raises:
      InputError: no model of this name.
    """
    name = values.get("name")
    kind = find_model(name).settings if isinstance(name, str) else ModelSettings
    known, found = {field.name for field in dataclasses.fields(kind)}, dict(values)
    if kind is OwnModelSettings:
        options = found.pop("options", {}) | {k: found.pop(k) for k in [*found] if k not in known}
        found["options"] = {k: v for k, v in options.items() if not _is_default(k, v)}
    elif set(OPTIONS) <= set(found) and not set(OPTIONS) & known:
        # Every model's section had MMGCN's four fields once, whatever the model. No other model
        # has ever read them, so nothing is lost with them. Some of the four are a mistake.
        found = {k: v for k, v in found.items() if k not in OPTIONS}
    return kind, found


def as_recorded(kind: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under the names and in the shape that their first version had.

    Args:
      kind: the settings dataclass.
      plain: of `to_dict`, some fields of which may be left out.

    Returns:
      What the digests of files and folders are made of.
    """
    former = {new: old for old, new in RENAMED.get(kind.__name__, {}).items()}
    if issubclass(kind, ModelSettings):  # MMGCN's fields were every model's
        later = LATER.get(find_model(plain["name"]).settings.__name__, {})
        plain = {k: v for k, v in plain.items() if k not in later or v != later[k]}
        return (
            OPTIONS | {k: v for k, v in plain.items() if k != "options"} | plain.get("options", {})
        )
    later = LATER.get(kind.__name__, {})
    plain = {k: v for k, v in plain.items() if k not in later or v != later[k]}
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    return {former.get(k, k): _as_recorded(types[k], value) for k, value in plain.items()}


def result_with_new_names(found: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's result, or a row made of it, under the names of now.

    Args:
      found: of a result file, of a reproduction's rows or of a scoreboard's.
    """
    renamed = _rename(found, RESULT, "result")
    sections = {
        "defense": RENAMED["AdversarialSettings"],
        "settings": RENAMED["AttackRunSettings"],
        "evaluation": RENAMED["AttackRunSettings"],
    }
    for name, former in sections.items():
        if isinstance(renamed.get(name), Mapping):
            renamed[name] = _rename(renamed[name], former, name)
    for outer, inner in (("trained_with", "adversarial"), ("evaluation", "settings")):
        section = renamed.get(outer)
        if isinstance(section, Mapping) and isinstance(section.get(inner), Mapping):
            former = sections["defense" if inner == "adversarial" else "settings"]
            renamed[outer] = dict(section) | {inner: _rename(section[inner], former, outer)}
    if isinstance(renamed.get("content"), Mapping):
        renamed["content"] = _content(renamed["content"])
    if isinstance(renamed.get("by_training"), Sequence):
        renamed["by_training"] = [
            one | {"content": _content(one["content"])} for one in renamed["by_training"]
        ]
    return renamed


def _content(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """A use of content as `evaluation.content.use_of_content` gives it, also an older version's.

    That had recall with contents exchanged, of all test interactions, without intervals.
    """
    if "content_utility" not in found:
        return found
    entry = {
        "recall": {
            "own": {"value": found["clean"]},
            "mean": None,
            "exchanged": found["permuted"],
        },
        "contribution": None,
        "sensitivity": {"value": found["content_utility"]},
    }
    return {"metric": found["metric"], "test": {"all": entry}}


def _rename(values: Mapping[str, Any], former: Mapping[str, str], path: str) -> dict[str, Any]:
    for old, new in former.items():
        if old in values and new in values:
            raise InputError(
                f"{path}.{old} is called {new} now, and both are given. Give {new} alone."
            )
    return {former.get(name, name): value for name, value in values.items()}


def _is_default(option: str, value: Any) -> bool:
    return option in OPTIONS and value == OPTIONS[option]


def _as_recorded(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return as_recorded(kind, value)
    sections = [a for a in typing.get_args(kind) if dataclasses.is_dataclass(a)]
    if sections:
        return {name: as_recorded(sections[0], one) for name, one in value.items()}
    return value
