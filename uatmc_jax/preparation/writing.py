"""The files of a prepared data set that people and other programs read."""

import csv
import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from uatmc_jax.data.interactions import SPLITS
from uatmc_jax.data.manifest import MANIFEST_FILE
from uatmc_jax.preparation.core import SPLIT_RULES, Rows
from uatmc_jax.preparation.interactions import SplitSizes
from uatmc_jax.preparation.lines import Tally
from uatmc_jax.preparation.settings import AmazonSettings, Settings
from uatmc_jax.store import hash_file, write_json, write_text

MALFORMED_FILE = "malformed.log"
_BLOCK_ROWS = 1 << 16


def write_inter(path: pathlib.Path, blocks: Iterable[Rows]) -> SplitSizes:
    """Writes interactions in MMRec's layout, with those of rating and time that there are.

    Args:
      path: of the file.
      blocks: of whole users, with labels; at least one.
    """
    n_each, most_trained, begun = np.zeros(len(SPLITS), np.int64), 0, False
    with open(path, "w", encoding="utf-8") as file:
        for rows in blocks:
            columns: dict[str, Any] = {"userID": (rows.users, _texts)}
            columns |= {"itemID": (rows.items, _texts), "rating": (rows.ratings, _ratings)}
            columns |= {"timestamp": (rows.times, _times), "x_label": (rows.labels, _texts)}
            columns = {name: pair for name, pair in columns.items() if pair[0] is not None}
            if not begun:
                file.write("\t".join(columns) + "\n")
                begun = True
            for start in range(0, len(rows.users), _BLOCK_ROWS):
                block = slice(start, start + _BLOCK_ROWS)
                cells = [form(column[block]) for column, form in columns.values()]
                file.write("\n".join(map("\t".join, zip(*cells, strict=True))) + "\n")
            n_each += np.bincount(rows.labels, minlength=len(SPLITS))  # type: ignore[arg-type]
            trained = np.bincount(rows.users[rows.labels == 0] - rows.users[0], minlength=1)
            most_trained = max(most_trained, int(trained.max()))
    return SplitSizes(dict(zip(SPLITS, n_each.tolist(), strict=True)), most_trained)


def _texts(values: np.ndarray) -> Iterable[str]:
    return map(str, values.tolist())


def _ratings(values: np.ndarray) -> list[str]:
    """Few are distinct: each is written once."""
    distinct, places = np.unique(values, return_inverse=True)
    texts = ["" if value != value else repr(float(f"{value:.7g}")) for value in distinct]
    return [texts[place] for place in places.tolist()]


def _times(values: np.ndarray) -> Iterable[str]:
    whole = values.astype(np.int64)
    if (whole == values).all():
        return _texts(whole)
    return (str(int(t)) if t.is_integer() else repr(t) for t in values.tolist())


def write_names(path: pathlib.Path, header: tuple[str, str], names: Iterable[str]) -> None:
    """Writes the source's ids beside ours, as MMRec does; the header names both."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(header)
        table.writerows((name, index) for index, name in enumerate(names))


def write_manifest(
    settings: Settings,
    data: pathlib.Path,
    tables: dict,
    features: dict[str, tuple[dict, Tally]],
) -> dict:
    """Writes the account of the run; nothing in it depends on when or where it ran.

    Args:
      settings: of the run.
      data: the folder whose other files are done.
      tables: counts of interactions and items.
      features: per modality its counts and what was read of its source.

    Returns:
      What was written.
    """
    for name in (MANIFEST_FILE, MALFORMED_FILE):  # of a call that was killed while it ended
        for path in data.glob(f"{name}*"):
            path.unlink()
    tallies = dict(tables["tallies"])
    for modality, (_, tally) in features.items():
        if tally.sha256:
            tallies[f"{modality} features"] = dataclasses.asdict(tally)
    _write_malformed(data, tallies)
    outputs = sorted(data.iterdir())
    manifest = {
        "command": settings.layout if isinstance(settings, AmazonSettings) else "generic",
        "settings": {
            name: _shown(name, value) for name, value in vars(settings).items() if name != "out"
        },
        "sources": {
            name: {field: value for field, value in tally.items() if field != "samples"}
            for name, tally in tallies.items()
        },
        "interactions": tables["interactions"],
        "split": {
            "rule": "as given"
            if getattr(settings, "split_column", None)
            else SPLIT_RULES[settings.split],
            **tables["split"],
        },
        "items": tables.get("items"),
        "losses": tables["losses"],
        "features": {modality: counts for modality, (counts, _) in features.items()},
        "versions": {name: importlib.metadata.version(name) for name in ("uatmc_jax", "numpy")},
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)} for path in outputs
        },
    }
    write_json(data / MANIFEST_FILE, manifest)
    return manifest


def _shown(name: str, value: Any) -> Any:
    """A setting without the folders of this machine."""
    if isinstance(value, pathlib.Path):
        return value.absolute().name
    if name.endswith("_encoder") and value and pathlib.Path(value).is_dir():
        return pathlib.Path(value).absolute().name
    return value


def _write_malformed(data: pathlib.Path, tallies: dict[str, dict]) -> None:
    lines = [
        f"{tally['file']}, {number}: {reason}: {beginning!r}\n"
        for tally in tallies.values()
        for number, reason, beginning in tally["samples"]
    ]
    if lines:
        text = "".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")
        write_text(data / MALFORMED_FILE, text)
