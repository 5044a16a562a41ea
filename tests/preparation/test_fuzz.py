"""Whatever files and flags are given: a right data set, or one clear line and nothing written.

The seeds are fixed, so a run is the same everywhere; 150 cases, and 750 by -m slow.
"""

import collections
import contextlib
import gzip
import io
import pathlib
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.preparation import sources
from uatmc_jax.data import load_dataset, load_item_names, load_item_titles
from uatmc_jax.errors import DataWarning


def fuzz(cases):
    """How a test of so many cases runs."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


CASES = pytest.mark.parametrize("cases", [50, pytest.param(250, marks=pytest.mark.slow)])


def check(arguments, out):
    """Runs the command and judges the outcome; True if it wrote a data set."""
    errors, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        code = sources.prepare(*arguments)
    lines = errors.getvalue()
    if code:
        assert code == 2, (code, lines)
        assert lines.startswith("error: ") and lines.count("\n") == 1, lines
        assert not out.exists() or not any(out.iterdir())
        return False
    assert all(line.startswith("warning: ") for line in lines.splitlines()), lines
    check_data_set(out)
    assert not out.with_name(out.name + ".partial").exists()
    return True


def check_data_set(out):
    (inter,) = out.glob("*.inter")
    files = {"visual": "image_feat.npy", "textual": "text_feat.npy"}
    found = tuple(f"{name}:{file}" for name, file in files.items() if (out / file).exists())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # features of zeros are right, if odd
        dataset = load_dataset(out, inter.stem, found)
    users = [dataset.split(name).users for name in ("train", "valid", "test")]
    assert set(np.concatenate(users)) == set(range(dataset.n_users))
    assert dataset.item_counts.min() > 0
    assert list(load_item_names(out).values()) == list(range(dataset.n_items))
    assert set(load_item_titles(out)) <= set(range(dataset.n_items))


def rows(n_users=7, n_items=6):
    """Each user with all items but one or two, so that a 3-core has everything."""
    return [
        (f"u{user}", sources.asin(item), user + item)
        for user in range(n_users)
        for item in range(n_items)
        if (user + item) % n_items > user % 2
    ]


REVIEWS = [
    {"reviewerID": user, "asin": item, "overall": 4.0, "unixReviewTime": time}
    for user, item, time in rows()
]
META = sources.meta(8)
GOOD = {
    "reviews": sources.json_lines(REVIEWS),
    "meta": sources.literal_lines(META),
    "image": sources.image_records(range(6)),
}
with io.BytesIO() as _file:
    np.save(_file, np.random.default_rng(0).normal(size=(6, 3)))
    GOOD["text"] = _file.getvalue()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@st.composite
def mutated(draw, content):
    """A valid file, damaged somewhere."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 30))
        kind = draw(st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]))
        if kind == "replace":
            content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=length))
        elif kind == "delete":
            del content[at : at + length]
        elif kind == "repeat":
            content[at:at] = content[at : at + length] * 3
        else:
            del content[at:]
    return bytes(content)


@st.composite
def odd_object_lines(draw, entries, literal):
    """Lines of objects, some of whose fields are anything."""
    lines = []
    for entry in entries:
        if draw(st.integers(0, 9)) == 0:
            entry = {**entry, draw(st.sampled_from(sorted(entry))): draw(JSON)}
        lines.append(entry)
    return (sources.literal_lines if literal else sources.json_lines)(lines)


@st.composite
def packed(draw, content):
    """The content as it is, or as gzip, whole or cut or damaged."""
    data = draw(content)
    how = draw(st.sampled_from(["plain", "plain", "packed", "damaged"]))
    if how == "plain":
        return data
    data = gzip.compress(data, 1, mtime=0)
    return draw(mutated(data)) if how == "damaged" else data


@st.composite
def amazon_files(draw):
    files = dict(GOOD)
    broken = draw(st.sampled_from(["reviews", "reviews", "meta", "meta", "image", "text"]))
    choices = [mutated(GOOD[broken]), st.binary(max_size=200), st.just(b"")]
    if broken in ("reviews", "meta"):
        entries = REVIEWS if broken == "reviews" else META
        choices += [odd_object_lines(entries, broken == "meta")] * 3
    files[broken] = draw(packed(st.one_of(choices)))
    return files


@CASES
def test_amazon_files(cases):
    wrote = collections.Counter()

    @fuzz(cases)
    @given(amazon_files(), st.sampled_from(["0", "0.1", "1"]), st.sampled_from(["0", "2", "3"]))
    def case(files, share, core):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            paths = {name: sources.write(folder / name, files[name]) for name in files}
            arguments = ["amazon2014", "--reviews", paths["reviews"], "--meta", paths["meta"]]
            arguments += ["--text-features", paths["text"], "--max-malformed", share]
            # 4096 columns take most of a case's time: only where they are what is broken.
            if files["image"] is not GOOD["image"]:
                arguments += ["--image-features", paths["image"]]
            arguments += ["--max-lost", "1", "--core", core]
            out = folder / "out"
            wrote[check([*arguments, "--out", out], out)] += 1

    case()
    assert min(wrote[True], wrote[False]) > cases // 20, wrote


HEADER = ["user", "item", "time", "stars", "part"]
CELLS = [
    [user, item, str(time), "4.5", str((n % 7) % 3)] for n, (user, item, time) in enumerate(rows())
]
ODD_CELLS = ["", " ", '"', '""', "\t", ",", "\r", "\n", "\0", "nan", "inf", "1e400", "1_0", "-1"]
ODD_CELLS += ["0x1", "9" * 30, "2020-02-30", "9999-12-31T23:59:59-23:59", "train", "é", "\ufeff"]
ODD_CELLS = st.sampled_from([*ODD_CELLS, "\u2028", "u" * 300]) | st.text(max_size=8)


@st.composite
def tables(draw):
    cells = [HEADER, *([*row] for row in CELLS)]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.integers(0, len(cells) - 1))
        kind = draw(st.sampled_from(["cell", "cell", "cell", "short", "long", "drop", "twice"]))
        if kind == "cell":
            column = draw(st.integers(0, len(HEADER) - 1))
            cells[row] = [*cells[row][:column], draw(ODD_CELLS), *cells[row][column + 1 :]]
        elif kind == "short":
            cells[row] = cells[row][:-1]
        elif kind == "long":
            cells[row] = [*cells[row], draw(ODD_CELLS)]
        elif kind == "drop":
            del cells[row]
        else:
            cells.insert(row, cells[row])
        if not cells:
            break
    text = "\n".join(",".join(row) for row in cells) + draw(st.sampled_from(["", "\n", "\r\n"]))
    return text.encode("utf-8", "surrogatepass")


OPTIONS = {
    "--time-column": "time",
    "--rating-column": "stars",
    "--split-column": "part",
}


@CASES
def test_tables(cases):
    wrote = collections.Counter()

    @fuzz(cases)
    @given(
        packed(st.one_of(tables(), tables(), tables().flatmap(mutated), st.binary(max_size=100))),
        st.sets(st.sampled_from(sorted(OPTIONS))),
        st.sampled_from([",", ",", ",", ",", ";", "tab", '"']),
        st.sampled_from(["0", "0.1", "1"]),
        st.sampled_from(["0", "1", "3"]),
        st.booleans(),
    )
    def case(table, options, delimiter, share, core, as_items):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            path, out = sources.write(folder / "table.csv", table), folder / "out"
            arguments = ["generic", "--interactions", path, "--delimiter", delimiter]
            arguments += ["--user-column", "user", "--item-column", "item"]
            for option in sorted(options):
                arguments += [option, OPTIONS[option]]
            if as_items:
                arguments += ["--items", path, "--id-column", "item", "--title-column", "user"]
                arguments += ["--brand-column", "stars"]
            arguments += ["--max-malformed", share, "--core", core, "--max-lost", "1"]
            arguments += ["--out", out]
            wrote[check(arguments, out)] += 1

    case()
    assert min(wrote[True], wrote[False]) > cases // 20, wrote


FLAGS = ["name", "core", "seed", "max-malformed", "batch-size", "reviews", "meta", "items"]
FLAGS += ["max-lost", "columns", "item-columns", "min-rating", "split", "rating-column"]
FLAGS += ["text-features", "image-features", "delimiter", "user-column", "item-column", "images"]
FLAGS += [
    "time-column",
    "id-column",
    "text-columns",
    "interactions",
    "image-column",
    "split-column",
]
VALUES = st.one_of(
    st.text(max_size=12).filter(lambda value: not value.startswith("-h")),
    st.sampled_from(["", "0", "1", "3", "-1", "1e3", "nan", "99999999999999999999999", "0.5"]),
    st.sampled_from(
        ["@/clicks.csv", "@/reviews", "@/meta", "@/text.npy", "@", "@/nowhere", "@/a\nb"]
    ),
    st.sampled_from(
        ["user", "item", "time", "stars", "part", "user,item", ",", ";", "\0", "x" * 300]
    ),
)


@CASES
def test_flags(cases):
    wrote = collections.Counter()

    @fuzz(cases)
    @given(
        st.sampled_from(["amazon2014", "amazon2018", "generic"]),
        st.lists(st.tuples(st.sampled_from(FLAGS), VALUES), max_size=2),
        st.lists(st.text(max_size=6).filter(lambda word: not word.startswith("-")), max_size=4),
    )
    def case(command, changes, words):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            arguments = flags(folder, command, changes)
            before = set(folder.rglob("*"))
            # A word is always a mistake; most cases should get further.
            arguments += words[3:]
            wrote[check(arguments, folder / "out")] += 1
            if not (folder / "out").exists():
                assert set(folder.rglob("*")) == before

    case()
    assert min(wrote[True], wrote[False]) > cases // 20, wrote


def flags(folder, command, changes):
    """A right command line on sources in `folder`, some of whose flags are anything."""
    sources.write(folder / "reviews", GOOD["reviews"])
    sources.write(folder / "meta", GOOD["meta"])
    sources.write(folder / "text.npy", GOOD["text"])
    table = "\n".join(",".join(row) for row in [HEADER, *CELLS])
    sources.write(folder / "clicks.csv", table.encode())
    values = {"core": "3", "max-lost": "1"}
    if command != "generic":
        values |= {"reviews": "@/reviews", "meta": "@/meta"}
    else:
        values |= {"interactions": "@/clicks.csv", "user-column": "user", "item-column": "item"}
    values |= dict(changes)
    given = {flag: value.replace("@", str(folder), 1) for flag, value in values.items()}
    return [command, f"--out={folder / 'out'}", *(f"--{flag}={v}" for flag, v in given.items())]
