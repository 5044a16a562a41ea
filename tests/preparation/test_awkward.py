"""Tables as people have them: each is read as the plain one is, or refused with what to do."""

import datetime
import gzip
import json
import sys

import pandas as pd
import pytest

from tests.preparation.sources import prepare

ROWS = [
    (f"u{user}", f"i{item}", 1_600_000_000 + 100 * user + item, 1 + (user + item) % 5)
    for user in range(8)
    for item in range(7)
    if (user * 3 + item) % 7
]
HEADER = ("user", "item", "time", "stars")
FLAGS = ("--user-column", "user", "--item-column", "item", "--time-column", "time")


def table(rows=ROWS, header=HEADER, separator=",", end="\n"):
    return "".join(separator.join(map(str, row)) + end for row in (header, *rows)).encode()


def changed(place, form):
    """The rows with another cell; `form` is given the row."""
    return [(*row[:place], form(row), *row[place + 1 :]) for row in ROWS]


def read(folder, content, name="x.csv", *more):
    """The command's exit status, and the interactions by the shop's own ids if there are any."""
    (folder / name).write_bytes(content)
    flags = (*FLAGS, "--rating-column", "stars", "--core", "2", "--out", folder / "out", *more)
    code = prepare("generic", "--interactions", folder / name, *flags)
    if code:
        return code, None
    (file,) = (folder / "out").glob("*.inter")
    inter = pd.read_csv(file, sep="\t")
    for column, mapping in (("userID", "u_id_mapping.csv"), ("itemID", "i_id_mapping.csv")):
        ids = pd.read_csv(folder / "out" / mapping, sep="\t", dtype=str, keep_default_na=False)
        inter[column] = ids.iloc[inter[column], 0].to_numpy()
    found = inter[["userID", "itemID", "timestamp", "rating"]].itertuples(index=False, name=None)
    return code, sorted(found)


def moment(row, form):
    return form(datetime.datetime.fromtimestamp(row[2], datetime.UTC))


def objects(**more):
    return "\n".join(json.dumps(dict(zip(HEADER, row, strict=True)) | more) for row in ROWS)


TWO = datetime.timezone(datetime.timedelta(hours=2))
MIXED = b"".join(
    line + (b"\r\n" if n % 3 else b"\n") for n, line in enumerate(table().splitlines())
)
ALIKE = {
    "a mark": (b"\xef\xbb\xbf" + table(),),
    "a mark before quotes": (b"\xef\xbb\xbf" + table(header=[f'"{h}"' for h in HEADER]),),
    "UTF-16": (table().decode().encode("utf-16"),),
    "UTF-16 without a mark": (table().decode().encode("utf-16-be"),),
    "UTF-32": (table().decode().encode("utf-32"),),
    "CR LF": (table(end="\r\n"),),
    "CR": (table(end="\r"),),
    "ends of two kinds": (MIXED,),
    "no last end": (table().rstrip(),),
    "gzip by another name": (gzip.compress(table()),),
    "gzip of two members": (gzip.compress(table()[:300]) + gzip.compress(table()[300:]),),
    "blanks in the header": (table(header=[f" {name} " for name in HEADER]),),
    "blanks around cells": (table([[f" {cell} " for cell in row] for row in ROWS]),),
    "all quoted": (table([[f'"{cell}"' for cell in row] for row in ROWS]),),
    "semicolons": (table(separator=";"), "x.csv", "--delimiter", ";"),
    "pipes": (table(separator="|"), "x.txt", "--delimiter", "|"),
    "two colons": (table(separator="::"), "x.dat", "--delimiter", "::"),
    "whole floats": (table(changed(2, lambda row: f"{row[2]}.0")),),
    "scientific times": (table(changed(2, lambda row: f"{row[2]:.9e}")),),
    "ISO 8601 in UTC": (table(changed(2, lambda r: moment(r, lambda t: f"{t:%FT%TZ}"))),),
    "with an offset": (
        table(changed(2, lambda r: moment(r, lambda t: t.astimezone(TWO).isoformat()))),
    ),
    "JSON lines": (objects().encode(), "x.jsonl"),
    "JSON lines with a mark and blanks": (b"\xef\xbb\xbf\n\n" + objects().encode(), "x.jsonl"),
    "JSON lines with more": (objects(other={"a": [None]}).encode(), "x.jsonl"),
    "a name that is a pattern": (table(), "x[1]*.csv"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_it_is_read_as_the_plain_table_is(case, tmp_path):
    code, found = read(tmp_path, *ALIKE[case])
    assert code == 0 and found == sorted(ROWS)


def test_zstd_is_unpacked_frame_by_frame_and_one_cut_off_is_named(tmp_path, capsys):
    pack = pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress
    (tmp_path / "whole").mkdir()
    whole = pack(table()[:300]) + pack(table()[300:])
    code, found = read(tmp_path / "whole", whole, "x.csv.zst")
    assert code == 0 and found == sorted(ROWS)
    cut, flipped = whole[:-5], whole[:30] + b"?" + whole[31:]
    for damaged, said in ((cut, "the zstd file is truncated"), (flipped, "damaged zstd file")):
        assert read(tmp_path, damaged, "x.csv.zst")[0] == 2
        assert f"x.csv.zst: {said}" in capsys.readouterr().err


def test_zstd_without_its_library_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert read(tmp_path, b"\x28\xb5\x2f\xfd" + bytes(40))[0] == 2
    assert "x.csv: reading zstd needs zstandard. pip install" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["", "NULL", "nan", "\\N", "NA", "#N/A", "undefined", "-"])
def test_a_null_word_is_nothing_in_any_column(word, tmp_path):
    every = 9
    rows = [row for row in ROWS if row[2] % every]
    for place, expected in ((0, rows), (2, rows)):
        given = changed(place, lambda row: row[place] if row[2] % every else word)  # noqa: B023
        (tmp_path / str(place)).mkdir()
        code, found = read(tmp_path / str(place), table(given))
        assert code == 0 and found == sorted(expected)
    code, found = read(tmp_path, table(changed(3, lambda row: row[3] if row[3] > 1 else word)))
    assert code == 0 and [row[:3] for row in found] == sorted(row[:3] for row in ROWS)
    assert sum(row[3] != row[3] for row in found) == sum(row[3] == 1 for row in ROWS)


def test_negative_ratings_are_numbers(tmp_path):
    code, found = read(
        tmp_path, table(changed(3, lambda row: -row[3])), "x.csv", "--min-rating", "-3"
    )
    assert code == 0 and {row[3] for row in found} == {-1, -2, -3}


def test_parquet_equals_the_table(tmp_path):
    """With times in a zone, whole floats for ids, categories and a name that is a pattern."""
    frame = pd.DataFrame(ROWS, columns=list(HEADER))
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True).dt.tz_convert("Asia/Tokyo")
    frame["item"] = frame["item"].str[1:].astype(float)
    frame["user"] = frame["user"].astype("category")
    frame.to_parquet(tmp_path / "frame")
    code, found = read(tmp_path, (tmp_path / "frame").read_bytes(), "x[1]*.parquet")
    assert code == 0 and found == sorted((user, item[1:], *rest) for user, item, *rest in ROWS)


REFUSED = {
    "bytes of Latin-1": (
        table(changed(0, lambda r: r[0] + "é")).decode().encode("latin-1"),
        "iconv",
    ),
    "decimal commas": (table(changed(3, lambda row: f'"{row[3]},5"')), "decimal comma"),
    "dates of no order": (table(changed(2, lambda row: "31/01/2020")), "ISO 8601"),
    "times beyond 2^53": (table(changed(2, lambda row: 2**53 + row[2])), "2\\^53"),
    "times of thousands of digits": (table(changed(2, lambda row: "9" * 5000)), "2\\^53"),
    "ids beyond 2^53": (table(changed(0, lambda row: f"{2**53 + 2}.0")), "write it as text"),
    "another case": (table(header=("User", "item", "time", "stars")), "Perhaps 'User' is meant"),
    "Excel's first line": (b"sep=;\n" + table(separator=";"), "Excel's: delete it"),
    "another separator": (table(separator=";"), "set --delimiter"),
    "nothing": (b"", "is empty"),
    "a header alone": (table([]), "holds no records"),
    "a number of thousands of digits": (
        "\n".join('{"user": %s, "item": 1, "time": 1}' % ("9" * 5000) for _ in ROWS).encode(),
        "not JSON",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_what_to_do(case, tmp_path, capsys):
    content, said = REFUSED[case]
    code, _ = read(tmp_path, content)
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert pd.Series([error]).str.contains(said).all()
