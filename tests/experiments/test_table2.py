"""Table 2 of a study that is not measured whole, cut from committed rows."""

import itertools
import pathlib

import pytest

from experiments import plots
from experiments.paper.table2 import ARTEFACT
from experiments.study_files import draw, read_results

RESULTS = pathlib.Path(__file__).parents[2] / "experiments" / "results"
HEADED = {"none", "control", "uat", "uat_mc"}  # defences: in one table; the weights have another


@pytest.fixture(scope="module")
def units():
    """{unit: its rows}."""
    (study,) = (s for s in read_results(RESULTS) if s.name == "baby_mmgcn")
    found: dict[str, list] = {}
    for row in study.rows:
        if row["artefact"] == "table2":
            found.setdefault(row["unit"].removeprefix("table2/"), []).append(row)
    assert set(found) == HEADED | {"weights", "comparisons"}
    return found


def rows_of(units, *names):
    return [row for name in names for row in units[name]]


def test_of_any_units_there_are_their_lines_and_claims_of_the_whole(units):
    page, claims = ARTEFACT.section(rows_of(units, *units)), ARTEFACT.claims(rows_of(units, *units))
    assert len(claims) == 12
    for count in range(1, 6):
        for some in itertools.combinations(units, count):
            rows = rows_of(units, *some)
            lines = [line for line in ARTEFACT.section(rows) if line.startswith("| ")]
            headers = bool(HEADED & set(some)) + ("weights" in some)
            assert len(lines) == sum("attack" in row for row in rows) + 2 * headers
            assert set(lines) <= set(page) and ARTEFACT.section(rows)[-1:] != [""]
            notes = " ".join(ARTEFACT.section(rows))
            assert ("trained on* has had" in notes) == ("control" in some)
            assert ("models at their last" in notes) == bool({"uat", "uat_mc"} & set(some))
            found = ARTEFACT.claims(rows)
            assert [claim for claim in claims if claim in found] == found


def test_what_each_claim_needs(units):
    def claimed(*names):
        return [claim.text for claim in ARTEFACT.claims(rows_of(units, *names))]

    assert claimed("comparisons") == claimed("uat") == claimed("uat_mc", "uat", "comparisons") == []
    assert claimed("none") == ["Unpopular items of the undefended model can be promoted."]
    (best,) = claimed("weights")
    assert best.startswith("With its best weight, L_align")
    (cost,) = claimed("control", "uat_mc")
    assert cost.endswith("against w/o AT, trained on.")
    assert len(claimed(*HEADED)) == 3 and len(claimed(*HEADED, "comparisons")) == 11
    assert len(claimed("none", "comparisons")) == 5


def test_the_figure_has_the_defences_that_are_measured(units, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "defences", lambda *args: drawn.append(args) or "table2.png")
    for names in (["weights"], ["comparisons"]):
        assert ARTEFACT.draw(rows_of(units, *names), tmp_path) == [] == drawn
    assert ARTEFACT.draw(rows_of(units, "uat", "none"), tmp_path) == ["table2.png"]
    ((_, _, gains, paper, others),) = drawn
    assert set(gains) == {(d, a) for d in ("w/o AT", "UAT") for a in ("fgsm", "pgd")}
    assert set(paper) == set(gains) and all(set(x) == {"w/o AT", "UAT"} for x in others.values())


def test_a_figure_goes_when_its_rows_are_not_there_any_more(units, tmp_path):
    (study,) = (s for s in read_results(RESULTS) if s.name == "baby_mmgcn")
    table2 = [u for u in study.plan["units"] if u["unit"].startswith("table2/")]

    def drawn(*names):
        some = [u | {"seconds": 1.0 if u["unit"][7:] in names else None} for u in table2]
        rows = rows_of(units, *names)
        return draw(study._replace(rows=rows, plan=study.plan | {"units": some}), tmp_path)

    assert drawn("none", "uat") == ["table2.png"]
    assert (tmp_path / "table2.png").stat().st_size > 5_000
    (tmp_path / "mine.png").touch()
    assert drawn("weights") == []
    assert [file.name for file in tmp_path.iterdir()] == ["mine.png"]
