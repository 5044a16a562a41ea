"""Nothing is lost in silence: what a preparation leaves behind is told, and too much refused."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.preparation.sources import prepare
from tests.preparation.test_generic import INTERACTIONS, N_ITEMS, catalogue, clicks, run
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.losses import check_losses, loss, tell


def manifest(folder):
    return json.loads((folder / "out" / "manifest.json").read_text())


def run_on(folder, text, *more, ending="csv"):
    """The command on a table of interactions given as text."""
    path = folder / f"clicks.{ending}"
    path.write_text(text, encoding="utf-8")
    return prepare("generic", "--interactions", path, *INTERACTIONS, "--out", folder / "out", *more)


def table(frame, sep=","):
    return frame[["who", "what", "kind"]].to_csv(index=False, sep=sep, lineterminator="\n")


FRAME = clicks().assign(kind="x")


def test_quotes_in_tab_separated_text_are_text(tmp_path):
    """A lone quote would otherwise take the lines up to the next one with it."""
    frame = FRAME.copy()
    frame.loc[[10, 200], "kind"] = ['"12 inch', '7" single']
    lines = "\n".join("\t".join(map(str, row)) for row in frame[["who", "what", "kind"]].values)
    assert run_on(tmp_path, f"who\twhat\tkind\n{lines}\n", ending="tsv") == 0
    assert manifest(tmp_path)["interactions"]["read"] == len(frame)
    assert manifest(tmp_path)["losses"]["lines of interactions lost"]["count"] == 0


def test_a_quote_never_closed_costs_its_line_and_no_other(tmp_path, capsys):
    lines = table(FRAME).splitlines()
    lines[11] = lines[11].replace(",x", ',"x')
    lines[200] = lines[200].replace(",x", ',"x, y"')
    assert run_on(tmp_path, "\n".join(lines)) == 0
    found = manifest(tmp_path)
    assert found["sources"]["interactions"]["malformed"] == 1
    assert found["interactions"]["read"] == len(FRAME) - 1
    assert "line 12: a quote that is not closed" in (tmp_path / "out/malformed.log").read_text()
    assert "lines of interactions lost: 1 of 400 (0.2%)" in capsys.readouterr().out


def test_two_lines_that_a_pair_of_quotes_would_make_one_are_refused(tmp_path):
    lines = table(FRAME).splitlines()
    lines[11], lines[12] = lines[11].replace(",x", ',"x'), lines[12] + '"'
    assert run_on(tmp_path, "\n".join(lines)) == 0
    found = manifest(tmp_path)["sources"]["interactions"]
    assert found["records"] == len(FRAME) and found["malformed"] == 1


def test_a_quoted_cell_may_go_on_over_lines(tmp_path):
    frame = FRAME.assign(kind=[f"a\nb, {n}" if n % 50 == 0 else "x" for n in range(len(FRAME))])
    assert run_on(tmp_path, table(frame)) == 0
    assert manifest(tmp_path)["interactions"]["read"] == len(frame)


def test_items_without_a_row_a_title_and_features_are_told(tmp_path, capsys):
    items = catalogue().iloc[2:].assign(sku=lambda frame: frame["sku"].astype(str))
    features = np.random.default_rng(0).normal(size=(len(items), 3)).astype(np.float32)
    features[:, 1], features[5], features[[3, 4]] = 0, 0, np.nan
    features *= 1e-5
    np.save(tmp_path / "text.npy", features)
    assert run(tmp_path, "csv", "--text-features", tmp_path / "text.npy", items=items) == 2
    error = capsys.readouterr().err
    assert "items without a title: 5 of 20 (25.0%), more than the 20% of --max-lost" in error
    more = ("--text-features", tmp_path / "text.npy", "--max-lost", "0.3")
    assert run(tmp_path, "csv", *more, items=items) == 0
    said = capsys.readouterr()
    for line in ("items without a row: 1 of 20", "items without text features: 3 of 20"):
        assert line in said.out and f"warning: {line}" in said.err
    assert "warning: constant columns of text features: 1 of 3" in said.err
    assert "warning: rows of zeros of text features: 1 of 19" in said.err
    assert "warning: text features spread by" in said.err
    losses = manifest(tmp_path)["losses"]
    assert losses["items without a row"] == {"count": 1, "of": N_ITEMS, "share": 0.05}
    written = np.load(tmp_path / "out" / "text_feat.npy")
    assert np.isfinite(written).all() and manifest(tmp_path)["features"]["text"]["rows of NaN"] == 2


def test_merged_ids_are_told(tmp_path, capsys):
    frame = clicks().astype({"what": object})
    frame.loc[::40, "what"] = [f"{item}.0" for item in frame.loc[::40, "what"]]
    n_forms = frame["what"].astype(str).nunique()
    assert run(tmp_path, "csv", "--max-lost", "1", interactions=frame, items=False) == 0
    merged = manifest(tmp_path)["losses"]["items merged"]
    assert (merged["count"], merged["of"]) == (n_forms - N_ITEMS, n_forms)
    assert "differ in writing alone" in capsys.readouterr().err


def test_low_ratings_are_told_and_left_out_on_demand(tmp_path, capsys):
    rated = ("--rating-column", "stars")
    assert run(tmp_path, "csv", *rated, items=False) == 0
    low = int((clicks()["stars"] <= 2).sum())
    assert f"warning: ratings of 2 or less: {low} of 400" in capsys.readouterr().err
    frame = clicks().astype({"stars": object})
    frame.loc[5, "stars"] = ""
    (tmp_path / "liked").mkdir()
    liked = (*rated, "--min-rating", "3", "--max-lost", "1", "--core", "2")
    assert run(tmp_path / "liked", "csv", *liked, interactions=frame, items=False) == 0
    enough = pd.to_numeric(frame["stars"]) >= 3
    dropped = manifest(tmp_path / "liked")["interactions"]["dropped"]
    assert dropped["without rating"] == 1
    assert dropped["rated below 3"] == 400 - 1 - int(enough.sum())
    inter = pd.read_csv(tmp_path / "liked" / "out" / "shop.inter", sep="\t")
    assert inter["rating"].min() >= 3
    assert run(tmp_path, "csv", "--min-rating", "3", items=False) == 2
    assert "--min-rating needs --rating-column" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["user-time", "global-time"])
def test_splits_by_time(tmp_path, split):
    more = ("--time-column", "when", "--split", split)
    assert run(tmp_path, "csv", *more, items=False) == 0
    inter = pd.read_csv(tmp_path / "out" / "shop.inter", sep="\t")
    by = inter.groupby("userID") if split == "user-time" else [(0, inter)]
    for _, rows in by:
        times = [rows.loc[rows["x_label"] == label, "timestamp"] for label in (0, 1, 2)]
        assert times[0].max() <= times[1].min() and times[1].max() <= times[2].min()
    assert manifest(tmp_path)["split"]["rule"].startswith(
        {"user-time": "each user's n rows by time", "global-time": "the latest tenth"}[split]
    )


def test_decimal_commas_and_latin_1_have_their_hints(tmp_path, capsys):
    frame = clicks().assign(stars="4,5")[["who", "what", "stars"]]
    more = ("--rating-column", "stars", "--delimiter", ";")
    assert run_on(tmp_path, frame.to_csv(index=False, sep=";"), *more) == 2
    assert "line 2: the rating has a decimal comma: write a point" in capsys.readouterr().err
    assert run_on(tmp_path, frame.to_csv(index=False, sep=";")) == 2
    assert "Its cells may be separated by ';': set --delimiter" in capsys.readouterr().err
    (tmp_path / "clicks.csv").write_bytes("who,what\nZoë,1\n".encode("latin-1") * 3)
    arguments = ("--interactions", tmp_path / "clicks.csv", *INTERACTIONS)
    assert prepare("generic", *arguments, "--out", tmp_path / "out") == 2
    assert "line 2: not UTF-8 text; perhaps Latin-1" in capsys.readouterr().err


def test_tables_without_header(tmp_path, capsys):
    """MovieLens of a hundred thousand (tabs) and of a million (two colons)."""
    frame = clicks()[["who", "what", "stars"]].assign(t=range(400))
    run(tmp_path, "csv", "--rating-column", "stars", items=False)
    expected = (tmp_path / "out" / "shop.inter").read_text()
    columns = ("--columns", "who,what,stars,t", "--rating-column", "stars", "--name", "shop")
    for kind, (sep, ending) in {"100k": ("\t", "tsv"), "1m": ("::", "dat")}.items():
        (tmp_path / kind).mkdir()
        text = "".join(sep.join(map(str, row)) + "\n" for row in frame.values)
        more = (*columns, *(("--delimiter", "::") if sep == "::" else ()))
        assert run_on(tmp_path / kind, text, *more, ending=ending) == 0
        assert (tmp_path / kind / "out" / "shop.inter").read_text() == expected
    capsys.readouterr()
    (tmp_path / "wrong").mkdir()
    assert run_on(tmp_path / "wrong", text, "--delimiter", "::", ending="dat") == 2
    assert "0 columns are named 'who'" in capsys.readouterr().err
    assert run_on(tmp_path / "wrong", table(FRAME), "--columns", "who,what,kind") == 2
    assert "has a header of its own" in capsys.readouterr().err
    assert run_on(tmp_path / "wrong", "1,2\n3,4\n", *INTERACTIONS) == 2
    assert "name the columns with --columns" in capsys.readouterr().err


def test_shares_above_the_limit_name_the_largest():
    losses = {"items merged": loss(3, 10), "users merged": loss(5, 10)}
    with pytest.raises(InputError, match=r"users merged: 5 of 10 \(50\.0%\), more than the 20%"):
        check_losses(losses, 0.2)
    check_losses({**losses, "ratings of 2 or less": loss(9, 10)}, 0.5)
    lines, warnings = tell({"items merged": loss(1, 1000), "lines lost": loss(2, 10)})
    assert len(lines) == 2 and len(warnings) == 1 and loss(0, 0)["share"] == 0


def test_one_json_array_is_told_from_lines(tmp_path, capsys):
    assert run_on(tmp_path, '[{"who": 1, "what": 2}]', ending="json") == 2
    assert "is one JSON array. Write an object a line" in capsys.readouterr().err
