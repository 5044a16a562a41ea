"""Large files, in less memory than their rows take."""

import json
import os
import pathlib
import subprocess
import sys

import duckdb
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.preparation.sources import asin
from uatmc_jax.data import load_item_names, load_item_titles

N_ITEMS, PER_USER = 40_000, 8
GIGABYTE = 1 << 30


def write_sources(folder):
    """Users of eight different items each, and as many who come once; returns the rows written.

    The text of a review is what makes the file large, as in the real ones.
    """
    rng = np.random.default_rng(0)
    text = json.dumps("These are words of a review. " * 22)
    rows = 0
    with open(folder / "reviews.json", "w", encoding="utf-8") as file:
        while file.tell() < GIGABYTE:
            for user in range(rows // (PER_USER + 1), rows // (PER_USER + 1) + 1000):
                first, step = rng.integers(N_ITEMS), 1 + 2 * int(rng.integers(1000))
                items = [(int(first) + n * step) % N_ITEMS for n in range(PER_USER)]
                pairs = [(f"U{user:013d}", item) for item in items]
                pairs.append((f"V{user:013d}", items[0]))
                for name, item in pairs:
                    rows += 1
                    file.write(
                        f'{{"reviewerID": "{name}", "asin": "{asin(item)}", "overall": 5.0, '
                        f'"unixReviewTime": {1_400_000_000 + rows}, "reviewText": {text}}}\n'
                    )
    with open(folder / "meta.json", "w", encoding="utf-8") as file:
        for item in range(N_ITEMS):
            entry = {
                "asin": asin(item),
                "title": f"Thing {item}",
                "description": "It's long. " * 100,
                "categories": [["Things", f"Kind {item % 50}"]],
            }
            file.write(repr(entry) + "\n")
    return rows


# The peak of the process itself; a fork would count its parent's.
MEASURED = """
import pathlib, re, sys
from uatmc_jax.prepare import main
try:
    main(sys.argv[2:])
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(sys.argv[1]).write_text(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


# Rows of nothing but ids and a time, twelve a user; whole in memory they took 60 bytes each.
NARROW = 20_000_000


def write_narrow(path, rows):
    """A table of so many rows, written by the engine; items are the more popular the lower."""
    popular = "((hash(range + 1)::double / 2^64) ^ 2 * 100000)::bigint"
    chosen = f"'u' || (hash(range) % {rows // 12}) as who, 'i' || {popular} as what, range as t"
    with duckdb.connect(":memory:", config={"threads": "2"}) as db:
        db.execute(f"copy (select {chosen} from range({rows})) to '{path}' (format csv, header)")


def measure(folder, *arguments):
    """Runs the command in a process of its own; its peak memory in bytes."""
    peak = folder / "peak"
    call = [sys.executable, "-c", MEASURED, peak, *arguments]
    done = subprocess.run(
        list(map(str, call)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    print(f"peak {int(peak.read_text()) >> 10} MiB")
    return int(peak.read_text()) << 10


READS_PROC = pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").exists(), reason="reads Linux's /proc"
)


@pytest.mark.slow
@READS_PROC
def test_memory_does_not_grow_with_the_rows(tmp_path):
    write_narrow(tmp_path / "clicks.csv", NARROW)
    columns = ("--user-column", "who", "--item-column", "what", "--time-column", "t")
    out = tmp_path / "narrow"
    given = ("generic", "--interactions", tmp_path / "clicks.csv", *columns, "--out", out)
    assert measure(tmp_path, *given) < 7 * GIGABYTE // 4
    counts = json.loads((out / "manifest.json").read_text())["interactions"]
    assert counts["read"] == NARROW and counts["kept"]["interactions"] > NARROW // 2


@pytest.mark.slow
@READS_PROC
def test_a_gigabyte_of_reviews_is_prepared_in_less_memory(tmp_path):
    rows = write_sources(tmp_path)
    assert os.path.getsize(tmp_path / "reviews.json") >= GIGABYTE
    out = tmp_path / "large"
    arguments = ["--reviews", tmp_path / "reviews.json", "--meta", tmp_path / "meta.json"]
    assert measure(tmp_path, "amazon2014", *arguments, "--out", out) < GIGABYTE
    manifest = json.loads((out / "manifest.json").read_text())
    counts = manifest["interactions"]
    n_users = rows // (PER_USER + 1)
    assert counts["read"] == rows
    assert counts["dropped"]["below the 5-core"] == n_users
    assert counts["kept"]["users"] == n_users
    assert counts["kept"]["interactions"] == n_users * PER_USER
    # Eight interactions: one each for validation and test.
    assert manifest["split"]["valid"] == manifest["split"]["test"] == n_users
    assert len(load_item_names(out)) == counts["kept"]["items"] == len(load_item_titles(out))
