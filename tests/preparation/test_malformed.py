"""A thousand malformed inputs over all readers: right, or one clear error; no line is lost unseen.

What the engine cuts equals what is read row by row; every line is a record, blank, or counted.
"""

import collections
import gzip

import numpy as np
import pytest

from tests.preparation import sources
from uatmc_jax.data.interactions import read_inter
from uatmc_jax.data.names import load_item_names, load_item_titles
from uatmc_jax.errors import InputError
from uatmc_jax.preparation import GenericSettings, amazon, generic
from uatmc_jax.preparation.lines import Tally
from uatmc_jax.preparation.stage import Has, add, open_stage

ROWS = [
    (f"u{n % 7}é" if n % 5 == 0 else f"u{n % 7}", f"B{n % 11:03d}", f"{n % 5 + 1}.0", 10**9 + n)
    for n in range(60)
]
LINES = [",".join(map(str, row)) for row in ROWS]
HEADER = "user,item,stars,time"
CSV = "\n".join([HEADER, *LINES]).encode()
QUOTED = "\n".join(f'"{line}"'.replace(",", '","') for line in [HEADER, *LINES]).encode()
NAMES = ("user", "item", "stars", "time")
JSON = sources.json_lines(dict(zip(NAMES, row, strict=True)) for row in ROWS)
INTER = b"userID\titemID\tx_label\n" + b"".join(
    b"%d\t%d\t%d\n" % (n % 7, n, n % 3) for n in range(40)
)
MAPPING = b"asin\titemID\n" + b"".join(b"B%03d\t%d\n" % (n, n) for n in range(40))
TITLES = b"itemID,title\n" + b"".join(b'%d,"Thing, %d"\n' % (n, n) for n in range(40))
ODD = [b'"', b'""', b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe9", b",", b"\t", b";", b"\\", b"'"]
ODD += [b"NULL", b"nan", b"1e400", b"4,5", b"-1", b"9" * 30, b"\xef\xbb\xbf", b"\xc2\xa0", b" "]
ODD += [b"2020-01-01 00:00:00", b"2020-13-01 00:00:00", b"x" * 2000, "\u2028".encode(), b"{", b"}"]


def mutated(rng, content):
    """The content with some bytes changed, moved or gone, perhaps in another form."""
    content = bytearray(content)
    for _ in range(rng.integers(0, 5)):
        at, length = int(rng.integers(0, len(content) + 1)), int(rng.integers(0, 40))
        kind = rng.integers(0, 5)
        if kind < 2:
            content[at:at] = ODD[rng.integers(len(ODD))]
        elif kind == 2:
            content[at : at + length] = b""
        elif kind == 3:
            content[at:at] = content[at : at + length]
        elif rng.integers(0, 4) == 0:
            content = content[:at] or bytearray(b"x")
    content, form = bytes(content), rng.integers(0, 12)
    if form == 0:
        return b"\xef\xbb\xbf" + content
    if form == 1:
        return content.decode("utf-8", "replace").encode("utf-16")
    if form == 2:
        return gzip.compress(content, 1)[: None if rng.integers(0, 2) else -5]
    if form == 3:
        return content.replace(b"\n", b"\r\n")
    if form == 4:
        return [b"PK\3\4", b"\x89PNG", b"<html>", bytes(50)][rng.integers(4)] + content
    return content


def settings(path):
    return GenericSettings(
        out=path.parent / "out",
        name="x",
        interactions=path,
        user_column="user",
        item_column="item",
        rating_column="stars",
        time_column="time",
        delimiter="," if path.suffix == ".csv" else None,
        max_malformed=1,
    )


def read_events(path):
    """Both ways of reading a table, which must agree; (lines, of which are accounted for)."""
    wanted, tally = settings(path), Tally(path.name)
    one_by_one = generic._read_events(wanted, tally)
    slow = sorted((n, *map(plain, event[:2]), *event[2:4]) for n, event in one_by_one)
    assert len(slow) + tally.malformed == tally.records
    again = Tally(path.name)
    with open_stage(path.parent, Has(times=True, ratings=True, labels=False)) as stage:
        generic.stage_events(wanted, again, stage)
        rows = stage.db.execute("select n, user_as, item_as, t, r from events").fetchall()
    quick = sorted((n, plain(user), plain(item), t, r) for n, user, item, t, r in rows)
    assert quick == [
        (*row[:4], None if row[4] is None else float(np.float32(row[4]))) for row in slow
    ]
    assert (again.records, again.blank, again.malformed) == (
        tally.records,
        tally.blank,
        tally.malformed,
    )
    return tally


def plain(cell):
    return (cell or "").strip()


def read_reviews(layout):
    def read(path):
        tally = Tally(path.name)
        with open_stage(path.parent, Has(times=True, ratings=True, labels=False)) as stage:
            add(stage, amazon.read_reviews(path, layout, tally, 1))
            ((found,),) = stage.db.execute("select count(*) from events").fetchall()
        assert found + tally.malformed == tally.records
        return tally

    return read


def read_meta(path):
    tally = Tally(path.name)
    found = len(list(amazon.read_meta(path, "amazon2014", tally, 1)))
    assert found + tally.malformed == tally.records
    return tally


def in_folder(name, read):
    def reading(path):
        path.rename(path.parent / name)
        read(path.parent / name if name.endswith(".inter") else path.parent)

    return reading


READERS = {
    "csv": (CSV, "x.csv", read_events),
    "quoted csv": (QUOTED, "x.csv", read_events),
    "tsv": (CSV.replace(b",", b"\t"), "x.tsv", read_events),
    "json lines": (JSON, "x.jsonl", read_events),
    "reviews": (sources.json_lines(sources.reviews(n_rows=40)), "x", read_reviews("amazon2014")),
    "metadata": (sources.literal_lines(sources.meta()), "x", read_meta),
    "inter": (INTER, "x", in_folder("x.inter", read_inter)),
    "mapping": (MAPPING, "x", in_folder("i_id_mapping.csv", load_item_names)),
    "titles": (TITLES, "x", in_folder("items.csv", load_item_titles)),
}


def lines_of(content):
    """Lines that are not blank of a text that is plain UTF-8 without quotes; None of others."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if '"' in text or "\r" in text.replace("\r\n", "") or "\ufeff" in text[:1]:
        return None
    return sum(bool(line.removesuffix("\r")) for line in text.split("\n"))


def attempt(folder, reader, seed):
    """One malformed input: "read", "refused" or "lost"; whatever else is raised is raised."""
    content, name, read = READERS[reader]
    content = mutated(np.random.default_rng([seed, sorted(READERS).index(reader)]), content)
    folder.mkdir()
    (folder / name).write_bytes(content)
    try:
        tally = read(folder / name)
    except InputError as error:
        assert str(folder) in str(error) or name in str(error), error
        return "refused"
    expected = lines_of(content)
    if tally is not None and expected is not None:
        header = reader in ("csv", "tsv")
        if tally.records + header not in (expected, expected - tally.blank):
            return "lost"
    return "read"


def attempts(folder, cases):
    counts = collections.Counter()
    for seed in range(cases):
        for reader in READERS:
            counts[attempt(folder / f"{reader} {seed}", reader, seed)] += 1
    return counts


def test_malformed_inputs(tmp_path):
    counts = attempts(tmp_path, 3)
    assert counts["lost"] == 0 and counts["read"] and counts["refused"]


@pytest.mark.slow
def test_a_thousand_malformed_inputs(tmp_path):
    """The whole of it; a minute or two."""
    counts = attempts(tmp_path, 112)
    print(f"{sum(counts.values())} malformed inputs: {dict(counts)}, 0 tracebacks")
    assert counts["lost"] == 0 and sum(counts.values()) > 1000
