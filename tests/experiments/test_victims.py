"""The comparison of victims: plan, rows, page, trained runs taken as they are, from end to end."""

import dataclasses
import json

import pytest

from configs import test as test_config
from configs import victims as plans
from experiments.study import UNDEFENDED, unit_file
from experiments.victims import page
from experiments.victims.board import PAGE, read_rows, rebuild, run_board
from experiments.victims.measure import evaluation_of, units_of
from experiments.victims.plan import (
    Comparison,
    given_runs,
    policies_of,
    same_policy,
    searches,
    settings_of,
    studies_of,
)
from tests.conftest import ROOT
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import freedom, lgmrec, mmgcn, vbpr
from uatmc_jax.settings import from_config, from_values, to_dict

CPU = from_values(Comparison, plans.get_config())
QUICK = from_values(Comparison, plans.get_config("quick"))
DATA = open_dataset(from_config(test_config.get_config()).data)


def threat(after, certificate=None, unsearched=()):
    return {
        "members": ["pgd"], "targets": 4, "before": 0.01, "after": after, "gain": 0.0,
        "over_targets": [after, after], "budget_certificate": certificate,
        "any_content_certificate": certificate, "wins": {}, "masking": [],
        "unsearched": list(unsearched),
    }  # fmt: skip


def row(victim="freedom", serving="full", seed=999, **changes):
    found = {
        "format": 1,
        "victim": victim,
        "model": victim,
        "reads": ["raw"],
        "variant": UNDEFENDED,
        "defense": {"defense": "none"},
        "seed": seed,
        "serving": serving,
        "blind": None,
        "dataset": {"name": "baby", "fingerprint": "0"},
        "evaluation": evaluation_of(CPU),
        "users": 100,
        "recall@20": 0.09,
        "contribution": 0.01,
        "sensitivity": 0.02,
        "cold_contribution": None,
        "hr_before": 0.01,
        "threats": {"raw": threat(0.02, 0.03), "z": None},
        "training_seconds": 30.0,
        "epochs": 3,
        "target_seconds": {"search": "raw_relist", "exact": 0.5, "dense": None, "exact_cpu": 0.9},
        "device": {"platform": "cpu", "kind": "cpu"},
    }
    return found | changes


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "baby.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


def test_the_page_says_of_each_victim_what_was_measured(tmp_path):
    still = {"blind": "bm3 reads no content", "reads": [], "target_seconds": None}
    unsaid = threat(0.05, unsearched=["bm4 also lists neighbours"])
    rows = [
        row(),
        row(serving="own_row", threats={"raw": threat(0.015), "z": None}),
        row(seed=1, threats={"raw": threat(0.04, 0.05), "z": None}),
        row("bm3", threats={"raw": threat(0.01), "z": threat(0.01)}, **still),
        row("bm4", threats={"raw": None, "z": unsaid}),
        row("bm4", variant="uat_mc", threats={"raw": None, "z": threat(0.02)}),
    ]
    write(tmp_path, rows)
    rebuild(tmp_path)
    text = (tmp_path / PAGE).read_text(encoding="utf-8")
    # Two seeds: the mean, the least and the greatest; own_row has no certificate, z nothing.
    whole = "3.000% [2.000%, 4.000%] ≤ 4.00% [3.00%, 5.00%]"
    assert f"| freedom | none | 0.0900 | 1.000% | 1.500% | – | {whole} | – | ≤ 4.00%" in text
    assert "| freedom | raw | 0.0900 | 0.0992 | 3 | 10.0 | cpu | 0.50 | 0.90 | – | – |" in text
    assert "No edit whatever moves bm3:" in text and "freedom 3, bm4 5." in text
    assert "| 5.000%* | none |" in text and "- bm4, full, z: bm4 also lists neighbours." in text
    assert "| bm4 | uat_mc |" in text
    assert (tmp_path / "baby.png").stat().st_size > 1000


def test_how_few_hits_a_ratio_rests_on_is_said():
    """40 targets, 100 users: 40 hits before, then 12 and, of two seeds together, 24."""
    few = {"hr_before": 0.003, "threats": {"raw": threat(0.3), "z": None}}
    rows = [row(), row("lattice", **few), *(row("mmgcn", seed=seed, **few) for seed in (1, 2))]
    text = page.page({"baby": rows})
    assert evaluation_of(CPU)["targets"] == 40
    (line,) = (line for line in text.splitlines() if "Times as many users" in line)
    assert line.endswith(
        "freedom 2, lattice 100 (of 12 hits before), mmgcn 100 (of 24 hits before)."
    )


def test_committed_rows_lie_below_their_certificates():
    """What was found below what no edit exceeds; a budget's bound below that of any content."""
    files = list(ROOT.glob("experiments/results/victims/*.jsonl"))
    found = [of for file in files for row in read_rows(file) for of in row["threats"].values()]
    bounds = [
        (of["after"], of["budget_certificate"], of["any_content_certificate"]) for of in found if of
    ]
    assert bounds
    for ladder in bounds:
        known = [value for value in ladder if value is not None]
        assert known == sorted(known)


def test_rows_are_checked_before_anything_is_written(tmp_path):
    for name in page.FIELDS:
        broken = row()
        del broken[name]
        write(tmp_path, [row("bm3"), broken])
        with pytest.raises(InputError, match=rf"baby\.jsonl, line 2: '{name}' must be there"):
            read_rows(tmp_path / "baby.jsonl")
    other = evaluation_of(dataclasses.replace(CPU, targets=3))
    for changes, message in (
        ({"evaluation": other}, "differ in 'evaluation'"),
        ({"dataset": {"name": "baby", "fingerprint": "1"}}, "differ in 'dataset'"),
    ):
        write(tmp_path, [row(), row("bm3", **changes)])
        with pytest.raises(InputError, match=message):
            rebuild(tmp_path)
    with pytest.raises(InputError, match=r"no DATA\.jsonl"):
        rebuild(tmp_path / "none")
    assert not (tmp_path / PAGE).exists()


@pytest.mark.parametrize("board", [CPU, QUICK], ids=plans.PRESETS)
def test_every_victim_can_be_trained_and_its_defences_are_those_it_can_have(board, tmp_path):
    board = dataclasses.replace(board, data=QUICK.data)
    studies = studies_of(board, tmp_path, DATA, {})
    assert [study.name for study in studies] == list(board.victims)
    for study in studies:
        hardened = board.victims[study.name].hardened
        units = units_of(study)
        assert sum(unit.name.startswith("measured/") for unit in units) == 1 + len(hardened)
        assert len({unit.name for unit in units}) == len(units)
        assert units[0].seconds == pytest.approx(
            board.victims[study.name].seconds["epoch"] * study.settings.pretrain.epochs
        )


def test_searches_are_those_that_see_what_the_model_reads():
    def names(model, policy="full"):
        found = searches(CPU, CPU.victims["vbpr"], model, policy)
        return {threat: list(members) for threat, members in found.items()}

    gradients = ["pgd", "apgd_elu"]
    assert names(vbpr(DATA.sizes)) == {"raw": gradients, "z": gradients}
    assert names(freedom(DATA.sizes)) == {"raw": ["relist"], "z": []}
    assert names(lgmrec(DATA.sizes)) == {"raw": gradients, "z": []}
    # What is not defined is left out, what is the same measured once.
    assert policies_of(CPU, mmgcn(DATA.sizes)) == ["frozen", "full"]
    assert same_policy(vbpr(DATA.sizes), "own_row") == "full"
    assert same_policy(freedom(DATA.sizes), "own_row") == "own_row"


def test_plans_are_checked_before_any_work(tmp_path):
    plain = to_dict(QUICK)
    for changes, message in (
        ({"policies": ("nightly",)}, "config.policies"),
        ({"members": ("pgd", "nonsense")}, r"config\.members"),
        ({"seeds": (1, 1)}, "each once"),
        ({"defenses": {"none": {}}}, "other names"),
    ):
        with pytest.raises(InputError, match=message):
            from_values(Comparison, plain | changes)
    for fields, message in (
        ({"config": "baby_nonsense"}, "configs/ has no such file"),
        ({"model": {"nonsense": 1}}, r"config\.model\.nonsense"),
        ({"hardened": ("linearized",)}, r"projected features reach no score"),
    ):
        victim = dataclasses.replace(QUICK.victims["freedom"], hardened_epochs=1, **fields)
        board = dataclasses.replace(QUICK, victims={"freedom": victim})
        with pytest.raises(InputError, match=message):
            units_of(studies_of(board, tmp_path, DATA, {})[0])
    lists_alone = dataclasses.replace(QUICK, members=("pgd",))
    with pytest.raises(InputError, match="Add relist"):
        studies = studies_of(lists_alone, tmp_path, DATA, {})
        units_of(next(study for study in studies if study.name == "freedom"))


def test_a_trained_run_is_taken_as_it_is(tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    with pytest.raises(InputError, match=r"config\.json is not there"):
        given_runs(QUICK, [f"freedom={run}"])
    with pytest.raises(InputError, match="wanted VICTIM=FOLDER"):
        given_runs(QUICK, [f"freedoom={run}"])
    trained = dataclasses.replace(settings_of(QUICK, "mgcn"), seed=999)
    trained = dataclasses.replace(trained, pretrain=dataclasses.replace(trained.pretrain, epochs=7))
    (run / "config.json").write_text(json.dumps(to_dict(trained)))
    (run / "summary.json").write_text(json.dumps({"stages": {}}))
    with pytest.raises(InputError, match="is of model mgcn, not freedom"):
        given_runs(QUICK, [f"freedom={run}"])
    other = dataclasses.replace(QUICK, seeds=(5,))
    with pytest.raises(InputError, match="none of plan"):
        given_runs(other, [f"mgcn={run}"])
    given = given_runs(QUICK, [f"mgcn={run}"])
    assert given == {("mgcn", 999): run}
    studies = {study.name: study for study in studies_of(QUICK, tmp_path, DATA, given)}
    units = units_of(studies["mgcn"])
    # Nothing is trained but what is hardened, which starts from it and depends on it.
    assert [u.name.partition("/")[0] for u in units] == ["training", "measured", "measured"]
    assert studies["mgcn"].settings.pretrain.epochs == 7 and studies["freedom"].given is None
    assert units[0].needs == (run / "summary.json",)
    before = unit_file(studies["mgcn"], units[1])
    (run / "summary.json").write_text(json.dumps({"stages": {}, "seed": 1}))
    assert unit_file(studies["mgcn"], units_of(studies["mgcn"])[1]) != before


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param("mgcn", marks=pytest.mark.long),
        pytest.param("", marks=pytest.mark.slow),  # the whole plan; half of it is MGCN
    ],
)
def test_the_quick_plan_from_end_to_end_and_nothing_twice(left_out, tmp_path, monkeypatch):
    quick = dataclasses.replace(
        QUICK, victims={name: one for name, one in QUICK.victims.items() if name != left_out}
    )

    def plan(board, given=None):
        studies = studies_of(board, tmp_path / "out", DATA, given or {})
        return [(study, unit) for study in studies for unit in units_of(study)]

    results = tmp_path / "results"
    assert run_board(plan(quick), results)
    rows = read_rows(results / "synthetic.jsonl")
    victims = {one["victim"] for one in rows}
    assert victims == set(quick.victims)
    for one in rows:
        for found in filter(None, one["threats"].values()):
            bound = found["budget_certificate"]
            assert bound is None or bound >= found["after"]
            assert one["serving"] != "frozen" or found["after"] == one["hr_before"]
        assert one["serving"] != "frozen" or one["contribution"] == one["sensitivity"] == 0
    assert next(r for r in rows if r["victim"] == "lightgcn")["blind"]
    text = (results / PAGE).read_bytes()
    monkeypatch.setattr("experiments.runner.do_unit", None)  # nothing is done again
    assert run_board(plan(quick), results)
    assert (results / PAGE).read_bytes() == text
    with pytest.raises(InputError, match=r"has another evaluation \(targets\)"):
        run_board(plan(dataclasses.replace(quick, targets=3)), results)
    monkeypatch.undo()
    # A run of before, on its own, in another folder: measured again, not trained.
    (run,) = (tmp_path / "out" / "synthetic" / "freedom" / "runs").iterdir()
    alone = dataclasses.replace(quick, victims={"freedom": quick.victims["freedom"]})
    given = given_runs(alone, [f"freedom={run}"])
    again = plan(alone, given)
    assert [unit.name for _, unit in again] == ["measured/none/seed999"]
    assert run_board(again, tmp_path / "again")
    found = read_rows(tmp_path / "again" / "synthetic.jsonl")
    expected = [one for one in rows if one["victim"] == "freedom"]
    assert [one["threats"] for one in found] == [one["threats"] for one in expected]
