"""The scoreboard: rows, dominance, the front, the page, and a small board from end to end."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import scoreboard as boards
from configs import test as test_config
from experiments.scoreboard import board as board_module
from experiments.scoreboard import page, pareto
from experiments.scoreboard.board import Board, rebuild, run_board, studies_of, units_of
from tests.conftest import ROOT
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import from_config, from_values

COMMITTED = ROOT / "experiments" / "results" / "scoreboard"


def row(entry="a", seed=0, recall=0.06, use=0.01, gain=1.0, certificate=0.01, **changes):
    found = {
        "format": 1,
        "study": "test",
        "victim": "vbpr",
        "dataset": {"name": "synthetic", "fingerprint": "0"},
        "entry": entry,
        "defense": {"defense": "none", "epochs": 2},
        "seed": seed,
        "threat_model": {"norm": "linf", "eps": 0.1, "k": 50, "level": "projected"},
        "evaluation": {"targets": 5, "users": 10},
        "members": ["pgd"],
        "recall@20": recall,
        "contribution": use,
        "sensitivity": 0.01,
        "attacked_hit_rate": 0.02,
        "attacked_contribution": 0.01,
        "gain": gain,
        "certificate": certificate,
        "hr_before": 0.001,
        "hr_after": 0.002,
        "pgd_gain": gain,
        "feature_gain": gain,
        "masking": [],
        "training_seconds": 3.0,
        "epochs": 2,
        "device": {"platform": "cpu", "kind": "cpu"},
    }
    return found | changes


def entry(**of):
    return pareto.entries_of([row(**of)])[0]


numbers = st.lists(st.integers(0, 3), min_size=4, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6))
def test_the_front_is_what_nothing_dominates(points):
    """Against the definition, on a grid where ties are common."""
    rows = [row(f"e{n}", 0, *map(float, p)) for n, p in enumerate(points)]
    signs = np.array([1, 1, -1, -1])
    values = np.array(points) * signs
    expected = {
        f"e{i}"
        for i in range(len(points))
        if not any(
            (values[j] >= values[i]).all() and (values[j] > values[i]).any()
            for j in range(len(points))
        )
    }
    entries = pareto.entries_of(rows)
    assert {found.name for found in pareto.pareto_front(entries)} == expected
    gains = [found.measures["gain"].mean for found in entries]
    assert gains == sorted(gains)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"hr_after": 0.0026}, False),
        ({"attacked_hit_rate": 0.017}, False),
        ({"attacked_contribution": 0.008}, False),
        ({"attacked_contribution": None}, None),
    ],
)
def test_a_defence_holds_where_the_attacked_items_keep_what_they_had(changes, expected):
    undefended = entry(entry="none", hr_after=0.01)
    found = entry(**{"hr_after": 0.0025} | changes)
    assert pareto.holds(found, undefended) is expected


def test_rows_older_than_contribution_are_read_and_compared_without_it(tmp_path):
    old = [row("none", gain=2.0), row("b", gain=1.0)]
    for one in old:
        for name in ("contribution", "attacked_hit_rate", "attacked_contribution"):
            del one[name]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    rows = pareto.read_rows(tmp_path / "old.jsonl")
    assert [found.name for found in pareto.pareto_front(pareto.entries_of(rows))] == ["b"]
    assert "| – | 0.0100 | – | – |" in page.page({"old": rows})


def test_beyond_the_seeds_spread_is_worst_against_best_on_every_axis():
    better = [row("b", s, 0.07 + d, 0.02, 0.5 - d, 0.005) for s, d in ((0, 0.0), (1, 0.001))]
    worse = [row("w", s, 0.06 + d, 0.01, 1.0 - d, 0.010) for s, d in ((0, 0.0), (1, 0.001))]
    a, b = pareto.entries_of(better + worse)
    assert pareto.clearly_dominates(a, b) and pareto.dominates(a, b)
    assert not pareto.clearly_dominates(b, a) and not pareto.dominates(b, a)
    # A single seed has no spread to be beyond of.
    alone = pareto.entries_of(better[:1] + worse)[0]
    assert pareto.dominates(alone, b) and not pareto.clearly_dominates(alone, b)
    # One seed of the worse one reaches into the better one's range: no longer clearly.
    worse[1]["recall@20"] = 0.0705
    a, b = pareto.entries_of(better + worse)
    assert pareto.dominates(a, b) and not pareto.clearly_dominates(a, b)


def test_an_undefined_gain_is_compared_with_nothing_and_a_missing_certificate_left_out():
    undefined, other = entry(gain=None), entry(entry="b", recall=0.01)
    assert not pareto.dominates(undefined, other) and not pareto.dominates(other, undefined)
    assert pareto.pareto_front([undefined, other]) == [other]
    assert pareto.dominates(entry(certificate=None), entry(entry="b", recall=0.01, certificate=0.0))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row()], "two rows of one seed"),
        ([row(), row(seed=1, defense={"defense": "uat"})], "differ in 'defense'"),
        ([row(), row(seed=1, victim="mmgcn")], "differ in 'victim'"),
        ([row(), row("b", threat_model={"norm": "l2"})], "differ in 'threat_model'"),
    ],
)
def test_rows_that_are_no_one_boards_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        pareto.entries_of(rows)


def test_a_row_that_lacks_a_field_is_refused_by_line_and_name(tmp_path):
    file = tmp_path / "mine.jsonl"
    later = {"contribution", "attacked_hit_rate", "attacked_contribution"}
    for name in pareto.FIELDS.keys() - later:
        broken = row()
        del broken[name]
        file.write_text(json.dumps(row()) + "\n" + json.dumps(broken) + "\n")
        with pytest.raises(InputError, match=rf"mine\.jsonl, line 2: '{name}' must be there"):
            pareto.read_rows(file)
    file.write_text(json.dumps(row(gain="much")) + "\n")
    with pytest.raises(InputError, match="'gain' must be there"):
        pareto.read_rows(file)
    file.write_text(json.dumps(row(gain=float("nan"))) + "\n")
    with pytest.raises(InputError, match="'gain' must be there"):
        pareto.read_rows(file)
    file.write_text("")
    with pytest.raises(InputError, match="no rows"):
        pareto.read_rows(file)
    file.write_text("{\n")
    with pytest.raises(InputError, match="line 1: not JSON"):
        pareto.read_rows(file)
    file.write_text(json.dumps(row(gain=None, certificate=None)) + "\n")
    assert len(pareto.read_rows(file)) == 1


def test_others_rows_stay_and_come_onto_the_page(tmp_path):
    mine = [row("a", 0), row("a", 1)]
    board_module.write("test", mine, tmp_path)
    with open(tmp_path / "test.jsonl", "a") as file:
        file.write(json.dumps(row("theirs", 7, recall=0.09)) + "\n")
    board_module.write("test", [row("a", 0, recall=0.05)], tmp_path)
    rows = pareto.read_rows(tmp_path / "test.jsonl")
    assert [(r["entry"], r["seed"], r["recall@20"]) for r in rows] == [
        ("a", 0, 0.05), ("a", 1, 0.06), ("theirs", 7, 0.09)
    ]  # fmt: skip
    rebuild(tmp_path)
    text = (tmp_path / "SCOREBOARD.md").read_text()
    assert "| **theirs** |" in text and "| a |" in text
    assert (tmp_path / "test.png").stat().st_size > 1000


def small_board(**changes):
    values = boards.get_config("quick").to_dict() | {
        "pretrain_epochs": 1, "adversarial_epochs": 1, "seeds": (999,), "targets": 4,
        "bootstrap": 50, "members": ("fgsm", "pgd", "transfer_none", "transfer_reseeded"),
        "entries": {
            "exact": {"defense": "exact", "content_weight": 0.2, "train_projector_head": True},
        },
    }  # fmt: skip
    return from_values(Board, values | changes)


def small_plan(out, **changes):
    chosen = from_config(test_config.get_config())
    studies = studies_of("test", chosen, small_board(**changes), out, open_dataset(chosen.data))
    return [(study, unit) for study in studies for unit in units_of(study)]


@pytest.mark.long
def test_a_board_from_end_to_end_and_nothing_twice(tmp_path, monkeypatch):
    plan = small_plan(tmp_path / "out")
    assert run_board("test", plan, tmp_path / "results")
    rows = pareto.read_rows(tmp_path / "results" / "test.jsonl")
    assert [r["entry"] for r in rows] == ["none", "control", "exact"]
    for found in rows:
        # The suite is never below PGD-10, and the certificate never below the suite.
        assert found["hr_after"] >= found["hr_before"]
        if found["gain"] is not None:
            assert found["gain"] >= found["pgd_gain"]
        assert found["certificate"] >= found["hr_after"]
        assert found["threat_model"]["eps"] == 0.1 and found["code"]["sources"]
    assert rows[2]["defense"]["content_weight"] == 0.2 and rows[2]["epochs"] == 1
    # A z of its own is shared with no surrogate.
    assert [len(r["members"]) for r in rows] == [4, 4, 2] and "feature" not in rows[0]["members"]
    assert any(found["gain"] is not None for found in rows)
    page = (tmp_path / "results" / "SCOREBOARD.md").read_bytes()
    monkeypatch.setattr("experiments.runner.do_unit", None)  # nothing is done again
    assert run_board("test", plan, tmp_path / "results")
    assert (tmp_path / "results" / "SCOREBOARD.md").read_bytes() == page
    # Another board's rows would not stand beside these: said before any work.
    for changes, message in (
        ({"targets": 3}, r"line 1: entry 'none' has another evaluation \(targets\)"),
        ({"eps": 0.2}, "another threat_model"),
        ({"entries": {"exact": {"defense": "exact"}}}, "entry 'exact' has another defense"),
    ):
        with pytest.raises(InputError, match=message):
            run_board("test", small_plan(tmp_path / "out", **changes), tmp_path / "results")


def test_a_board_without_any_gain_is_still_drawn(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps(row(gain=None, epochs=0)) + "\n")
    rebuild(tmp_path)
    assert (tmp_path / "test.png").stat().st_size > 1000
    assert "undefined" in (tmp_path / "SCOREBOARD.md").read_text()


def test_boards_are_checked_before_any_work(tmp_path):
    for changes, message in (
        ({"entries": {"control": {}}}, "these are always there"),
        ({"members": ("fgsm",)}, "pgd among them"),
        ({"members": ("pgd", "nonsense")}, "config.members"),
        ({"seeds": (1, 1)}, "each once"),
        ({"entries": {"x": {"defense": "exactly"}}}, r"config\.adversarial\.defense"),
        ({"entries": {"x": {"nonsense": 1}}}, r"config\.adversarial\.nonsense"),
        ({"entries": {"x": {"defense": "none", "seed": 5}}}, "entries without a seed"),
    ):
        with pytest.raises(InputError, match=message):
            small_plan(tmp_path, **changes)
    with pytest.raises(InputError, match=r"no STUDY\.jsonl"):
        rebuild(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", boards.PRESETS)
def test_every_preset_names_trainings_that_can_be_made(preset, tmp_path):
    board = from_values(Board, boards.get_config(preset))
    config = test_config.get_config()
    if preset == "cpu_mmgcn":
        config.model.name = "mmgcn"
    chosen = from_config(config)
    for study in studies_of("test", chosen, board, tmp_path, open_dataset(chosen.data)):
        names = [unit.name for unit in units_of(study)]
        assert len(set(names)) == len(names)
        assert sum(name.startswith("suite/") for name in names) == len(board.entries) + 2


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="no committed scoreboard")
def test_the_committed_page_is_that_of_the_committed_rows():
    studies = {f.stem: pareto.read_rows(f) for f in sorted(COMMITTED.glob("*.jsonl"))}
    assert (COMMITTED / "SCOREBOARD.md").read_text(encoding="utf-8") == page.page(studies)
