"""Rows that say once what they have alike: read as they were, or refused by line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import report
from experiments.row_files import read_rows
from experiments.shared_rows import format_rows, read_lines
from uatmc_jax import store
from uatmc_jax.errors import InputError

SETTINGS = {"model": {"name": "vbpr", "hidden": {"visual": [1024, 256]}, "dropout": None}}
HEAD = {
    "study": "baby",
    "model": "vbpr",
    "dataset": {"name": "baby", "fingerprint": "35fbd44ea4c8cf6a"},
    "versions": {"python": "3.11.7", "jax": "0.10.2", "numpy": "2.4.6"},
}


def row(**fields):
    return {"study": "baby", "artefact": "table2", "unit": "table2/none", **HEAD} | fields


def through_a_file(folder, rows):
    (folder / "rows.jsonl").write_text(format_rows(rows))
    return [found for _, found in read_lines(folder / "rows.jsonl")]


def exact(rows):
    """Tells 1 from 1.0 and True, which Python has equal, and an order within a field."""
    return [{key: json.dumps(value) for key, value in row.items()} for row in rows]


# Objects of few kinds, so that they meet again: whole, within others, in lists, in another order.
LEAVES = st.sampled_from([None, True, 1, 1.0, -0.0, 0.1 + 0.2, 1e-300, "", "é\u2028", [], {}])
LONG = st.sampled_from([SETTINGS, HEAD, dict(reversed(HEAD.items())), {"settings": SETTINGS}])
VALUES = st.recursive(
    LEAVES | LONG,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["value", "over_seeds", "$"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from([*HEAD, "artefact", "summary", "test", "name"]), VALUES),
    max_size=5,
)


@given(rows=ROWS)
def test_rows_are_read_as_they_were_written(tmp_path_factory, rows):
    found = through_a_file(tmp_path_factory.mktemp("rows"), rows)
    assert found == rows and exact(found) == exact(rows)


def test_what_rows_have_alike_is_written_once(tmp_path):
    rows = [row(seed=seed, trained_with={"seed": seed, "sections": SETTINGS}) for seed in range(3)]
    rows += [row(seed=0, trained_with=rows[0]["trained_with"], study="sports"), {"seed": 1}]
    text = format_rows(rows)
    for once in ("35fbd44ea4c8cf6a", '"numpy"', '"hidden"', '"dropout": null'):
        assert text.count(once) == 1
    lines = [json.loads(line) for line in text.splitlines()]
    own = [line for line in lines if "$shared" not in line]
    assert [line.get("unit") for line in own] == ["table2/none"] * 4 + [None]
    assert own[1]["trained_with"] == {"seed": 1, "sections": own[2]["trained_with"]["sections"]}
    assert own[3]["trained_with"] == own[0]["trained_with"] and set(own[3]["trained_with"]) == {
        "$as"
    }
    found = through_a_file(tmp_path, rows)
    assert found == rows
    found[0]["trained_with"]["sections"]["model"]["name"] = "mmgcn"  # each has a copy of its own
    assert found[1:] == rows[1:]


def test_rows_without_anything_shared_are_read_and_written_as_they_were(tmp_path):
    rows = [HEAD | {"artefact": "table2"}, {"artefact": "table4", "values": [1, 2]}]
    plain = "".join(json.dumps(one) + "\n" for one in rows)
    assert format_rows(rows) == plain and format_rows([]) == ""
    old = [row(seed=0, test=SETTINGS), row(seed=1, test=SETTINGS)]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    assert read_lines(tmp_path / "old.jsonl") == [(1, old[0]), (2, old[1])]
    assert len(format_rows(old)) < len((tmp_path / "old.jsonl").read_text())


BROKEN = {
    "cut": ('{"$shared": 1, "a": 2}\n{"$as": 1, "b"', "line 2: not JSON"),
    "no text": (b"\xff\n", "line 1: not JSON"),
    "too deep": ('{"$shared": 1}\n' + "[" * 100_000, "line 2: not JSON"),
    "no object": ("{}\n[1]\n", "line 2: not a JSON object"),
    "line lost": ('{"$as": 1, "b": 3}\n', r"line 1: '\$as' names 1, and no line before it"),
    "lost within": ('{"b": [{"c": {"$as": 7}}]}\n', r"line 1: '\$as' names 7"),
    "lines exchanged": ('{"$as": 1}\n{"$shared": 1, "a": 2}\n', r"line 1: '\$as' names 1"),
    "itself": ('{"$shared": 1, "a": {"$as": 1}}\n', r"line 1: '\$as' names 1"),
    "no number": ('{"$shared": [1], "a": 2}\n', r"line 1: '\$shared' must be a number of its own"),
    "names no number": ('{"$shared": 1, "a": 2}\n{"$as": true}\n', r"line 2: '\$as' names True"),
    "number again": ('{"$shared": 1}\n{"$shared": 1}\n', r"line 2: '\$shared' must be a number"),
    "key twice": (
        '{"$shared": 1, "a": 2}\n{"$as": 1, "a": 2}\n',
        r"line 2: 'a' is there, and in '\$shared': 1 too",
    ),
    "number within": ('{"a": {"$shared": 1}}\n', r"line 1: '\$shared' within an object"),
    "nothing": ("", "no rows"),
    "no rows": ('{"$shared": 1, "a": 2}\n', "no rows"),
    "two names": ('{"linear": 1, "affine_in_content": 1}\n', "line 1: .*both are given"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_refused_by_name_and_line(name, tmp_path):
    content, message = BROKEN[name]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"rows\.jsonl.*{message}"):
        read_rows(file, {})


@pytest.mark.parametrize("depth", [100, 600, 900, 1500])
def test_whatever_lies_how_deep_is_read_or_refused(depth, tmp_path):
    file, line = tmp_path / "rows.jsonl", '{"a": ' + "[" * depth + "]" * depth + "}"
    file.write_text(line + "\n")
    try:
        assert json.dumps(read_rows(file, {})[0]) == line
    except InputError as error:
        assert "rows.jsonl, line 1: " in str(error) and depth > 100


@pytest.mark.parametrize("key", ["$as", "$shared"])
def test_what_sharing_is_written_with_is_no_key_of_a_row(key):
    for bad in ({key: 1}, {"a": [{"b": {key: 1}}]}, {"dataset": {key: 1}}):
        with pytest.raises(InputError, match="Rename it"):
            format_rows([bad])


def test_the_report_refuses_damaged_rows_in_a_line(tmp_path, capsys):
    (tmp_path / "test" / "rows").mkdir(parents=True)
    store.write_json(
        tmp_path / "test" / "plan.json", {"settings": {}, "plan": {}, "units": [], "overrides": []}
    )
    for text in ('{"$as": 3, "unit": "table2/none"}\n', json.dumps(row(code={})) + "\n"):
        (tmp_path / "test" / "rows" / "table2.jsonl").write_text(text)
        assert report.main([str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "rows/table2.jsonl, line 1: '" in error and error.count("\n") == 1


def test_rows_in_both_forms_are_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "test" / "rows").mkdir(parents=True)
    for file in ("rows.jsonl", "rows/table2.jsonl"):
        (tmp_path / "test" / file).write_text(json.dumps(row()) + "\n")
    assert report.main([str(tmp_path)]) == 2
    assert "has both rows.jsonl and rows/" in capsys.readouterr().err
    assert (tmp_path / "test" / "rows.jsonl").exists()
