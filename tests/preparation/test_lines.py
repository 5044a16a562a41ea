import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uatmc_jax.data import text
from uatmc_jax.errors import InputError
from uatmc_jax.preparation import lines
from uatmc_jax.preparation.lines import MalformedError, Tally, flat, identifier, parse_lines


def read(path, parse=bytes, share=0.0):
    tally = Tally(path.name)
    return list(parse_lines(path, parse, tally, share)), tally


def refuse_odd(line):
    if int(line) % 2:
        raise MalformedError("odd")
    return int(line)


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_come_whole_however_they_are_cut(tmp_path, monkeypatch, block, packed):
    monkeypatch.setattr(text, "BLOCK_BYTES", block)
    content = "\ufeffeins\r\n\nzwei ünï\n   \ndrei".encode()
    stored = gzip.compress(content[:9]) + gzip.compress(content[9:]) if packed else content
    path = tmp_path / "file.txt"
    path.write_bytes(stored + b"\0" * (5 if packed else 0))
    found, tally = read(path, bytes.strip)
    assert found == [b"eins", "zwei ünï".encode(), b"drei"]
    assert (tally.records, tally.blank, tally.malformed) == (3, 2, 0)
    assert tally.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert tally.bytes == path.stat().st_size


def test_highly_packed_files_come_in_small_blocks(tmp_path):
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(b"x" * (40 << 20)))
    sizes = [len(block) for block in lines.read_blocks(path, Tally("zeros"))]
    assert sum(sizes) == 40 << 20 and max(sizes) <= text.BLOCK_BYTES


@pytest.mark.parametrize("keep", [3, 15, -9, -1])
def test_truncated_gzip(tmp_path, keep):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"1\n" * 100)[:keep])
    with pytest.raises(InputError, match=r"file\.gz.*truncated"):
        read(path)


def test_damaged_gzip(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"1\n" * 100)[:-6] + b"\1\2\3\4\5\6")
    with pytest.raises(InputError, match=r"file\.gz: damaged"):
        read(path)


def test_a_line_without_end_is_one_malformed_record(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(b"2\n" + b"4" * (3 << 20) + b"\n6\n" + b"8" * (2 << 20))
    found, tally = read(path, share=0.5)
    assert found == [b"2", b"6"]
    assert [(where, why) for where, why, _ in tally.samples] == [
        ("line 2", "longer than 1 MiB"),
        ("line 4", "longer than 1 MiB"),
    ]


def test_malformed_lines_are_counted_sampled_and_stop_the_run(tmp_path):
    path = tmp_path / "file"
    path.write_text("".join(f"{n}\n" for n in [2] * 97 + [1, 3, 5]))
    found, tally = read(path, refuse_odd, share=0.03)
    assert found == [2] * 97 and tally.malformed == 3
    assert tally.samples[0] == ["line 98", "odd", "1"]
    with pytest.raises(InputError, match=r"3 of 100 records.*3\.0%.*2\.0%.*line 98: odd: '1'"):
        read(path, refuse_odd, share=0.02)


def test_a_wrong_file_stops_early(tmp_path):
    path = tmp_path / "file"
    path.write_text("1\n" * 100_000)
    with pytest.raises(InputError, match="1001 of 1001 records"):
        read(path, refuse_odd, share=0.5)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\n\n")
    with pytest.raises(InputError, match="no records"):
        read(path)


@pytest.mark.parametrize("value", [True, 1.5, [], {}, "a\tb", "a\0b", "\ud800", "x" * 257, 2**70])
def test_what_is_no_id(value):
    with pytest.raises(MalformedError):
        identifier(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (" ", None),
        ("", None),
        (7, "7"),
        (" A1 ", "A1"),
        ("NULL", None),
        ("None", None),
        ("nan", None),
        (float("nan"), None),
        ("\\N", None),
        ("12.0", "12"),
        (12.0, "12"),
        ("0012.00", "12"),
        ("-3.0", "-3"),
        ("0012", "0012"),
        ("12.5", "12.5"),
        ("1e3", "1e3"),
        ("9007199254740992.0", "9007199254740992"),
        ("Cafe\u0301", "Caf\u00e9"),
    ],
)
def test_ids_have_one_form(value, expected):
    assert identifier(value) == expected


@pytest.mark.parametrize(
    "value", ["9007199254740994.0", "1.8014398509481984e+16", 2.0**60, "1E+17", "1.23E17"]
)
def test_an_id_that_has_lost_digits_is_refused(value):
    with pytest.raises(MalformedError, match="digits"):
        identifier(value)


@given(st.text(max_size=40))
def test_an_id_in_its_one_form_stays_as_it_is(text):
    try:
        once = identifier(text)
    except MalformedError:
        return
    assert once is None or identifier(once) == once


@given(st.text())
def test_flat_text_is_one_line_of_utf8(text):
    result = flat(text)
    assert len(result.splitlines()) <= 1 and result == flat(result)
    assert result.encode().decode() == result


def test_flat_replaces_blanks_and_half_characters():
    assert flat(" a\r\n\tb \ud800 c\x7f") == "a b ? c"
