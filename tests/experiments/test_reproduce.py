"""The reproduction on seconds-sized data: complete, resumable, traceable, rebuilt from its rows."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from matplotlib.markers import CARETUPBASE

from configs import reproduce as plans
from configs import test as test_config
from experiments import plots, report, runner, study, study_files, variants
from experiments.paper import digits, numbers
from experiments.paper.artefact import FAILS, HOLDS, UNTESTED
from experiments.paper.figure6 import rank_correlation
from experiments.paper.registry import ARTEFACTS
from experiments.paper.trainings import paper_study
from experiments.study import Plan
from tests.commands import call
from tests.conftest import ROOT
from uatmc_jax import store
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import from_config, from_values

COMMITTED = [ROOT / "experiments" / name for name in ("results", "results_h200")]


def small_plan(**changes):
    plan = plans.get_config("quick")
    plan.pretrain_epochs, plan.adversarial_epochs = 2, 1
    plan.targets, plan.bootstrap, plan.cost_users = 3, 50, (50,)
    plan.permutations = 2
    plan.update(changes)
    return from_values(Plan, plan)


def small_study(out, **changes):
    config = test_config.get_config()
    config.pretrain.batch_size = config.adversarial.batch_size = 1000  # few steps
    settings = from_config(config)
    return paper_study("test", settings, small_plan(**changes), out, open_dataset(settings.data))


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A whole reproduction: its study and the folder of its report."""
    folder = tmp_path_factory.mktemp("reproduced")
    whole = small_study(folder)
    assert runner.run_studies([whole], list(ARTEFACTS.values()), folder / "results")
    return whole, folder / "results"


def test_every_artefact_is_in_the_report(reproduced):
    _, results = reproduced
    text = (results / report.REPORT_FILE).read_text()
    for each in ARTEFACTS.values():
        # What the paper's digits say is of its own data sets alone.
        assert (f"### {each.title}" in text) == (each.name != "digits")
    figures = sorted(p.name for p in (results / "test").glob("*.png"))
    assert len(figures) == 7
    for name in figures:
        assert f"(test/{name})" in text and (results / "test" / name).stat().st_size > 5_000
    assert text.count(f"**{HOLDS}**") + text.count(f"**{FAILS}**") > 10
    assert f"**{UNTESTED}**" in text and not re.search(r"\b(nan|inf|None)\b", text)


def test_every_row_names_seed_settings_code_and_data(reproduced):
    whole, results = reproduced
    (found,) = study_files.read_results(results)
    assert {row["artefact"] for row in found.rows} == {"training", *ARTEFACTS} - {"digits"}
    for row in found.rows:
        assert row["dataset"]["fingerprint"] == whole.dataset.fingerprint
        assert row["code"]["sources"] and row["versions"]["jax"] and row["device"]["kind"]
        if row["artefact"] != "table1":  # counts have no seed
            seeds = row.get("seeds") or row.get("evaluation", {}).get("seeds")
            assert seeds or "seed" in row
        if "summary" in row:
            assert row["threat_model"]["eps"] > 0
        if row["artefact"] in ("table2", "table4", "figure6") and "attack" in row:
            assert set(row["content"]["test"]) == {"all", "attacked", "cold"}
            assert "recall@10" in row["test"] and "adversarial" in row["trained_with"]
    header, *lines = (results / "test" / "measures.csv").read_text().splitlines()
    assert header.startswith("study,artefact,unit,variant,attack,row,measure,value,")
    assert len(lines) > 500 and all(line.count(",") >= 13 for line in lines)


def test_the_report_is_rebuilt_from_the_rows(reproduced, tmp_path):
    _, results = reproduced
    rebuilt = tmp_path / "results" / "test"
    shutil.copytree(results / "test" / "rows", rebuilt / "rows")
    shutil.copy(results / "test" / "plan.json", rebuilt)
    assert report.main([str(rebuilt.parent)]) == 0
    names = [str(p.relative_to(results)) for p in results.rglob("*.*") if p.suffix != ".csv"]
    assert len(names) > 20
    for name in names:
        assert (rebuilt.parent / name).read_bytes() == (results / name).read_bytes(), name


def test_rows_of_before_are_read_and_written_as_today(reproduced, tmp_path):
    """A single rows.jsonl; with or without what rows share."""
    _, results = reproduced
    old = tmp_path / "results" / "test"
    old.mkdir(parents=True)
    shutil.copy(results / "test" / "plan.json", old)
    (found,) = study_files.read_results(results)
    (old / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found.rows))
    assert report.main([str(old.parent)]) == 0
    assert not (old / "rows.jsonl").exists()
    for file in (results / "test" / "rows").iterdir():
        assert (old / "rows" / file.name).read_bytes() == file.read_bytes()
    assert (old.parent / report.REPORT_FILE).read_bytes() == (
        results / report.REPORT_FILE
    ).read_bytes()


def test_results_are_completed_elsewhere_and_replaced_by_another_plans(reproduced, tmp_path):
    """What RESULTS has of the same settings and plan stays, though OUT is empty."""
    _, results = reproduced
    there, few = tmp_path / "results", [ARTEFACTS["table1"], ARTEFACTS["appendix_c"]]
    shutil.copytree(results, there)
    for name in ("table1", "appendix_c"):
        (there / "test" / "rows" / f"{name}.jsonl").unlink()
    plan = store.read_json(there / "test" / "plan.json")
    for unit in plan["units"]:
        if unit["unit"].startswith(("table1", "appendix_c")):
            unit["seconds"] = None
    store.write_json(there / "test" / "plan.json", plan)
    assert report.main([str(there)]) == 0
    short = (there / report.REPORT_FILE).read_text()
    assert "### Table 1" not in short and "### Table 2" in short

    def rows():
        return {file.name: file.read_bytes() for file in (there / "test" / "rows").iterdir()}

    before = rows()
    assert runner.run_studies([small_study(tmp_path / "a")], few, there)
    after, whole = rows(), {f.name for f in (results / "test" / "rows").iterdir()}
    assert set(after) == whole and len(before) == len(whole) - 2
    assert {name: after[name] for name in before} == before
    whole_text = (results / report.REPORT_FILE).read_text()
    text = (there / report.REPORT_FILE).read_text()
    assert text.count("\n#") == whole_text.count("\n#") and "not run" not in text
    assert runner.run_studies([small_study(tmp_path / "b", targets=2)], few[:1], there)
    assert set(rows()) == {"table1.jsonl"}


def test_nothing_is_computed_twice(reproduced, monkeypatch):
    whole, results = reproduced
    monkeypatch.setattr(runner, "do_unit", None)
    monkeypatch.setattr(variants, "train_vmapped", None)
    before = (results / report.REPORT_FILE).read_bytes()
    assert runner.run_studies([whole], list(ARTEFACTS.values()), results)
    assert (results / report.REPORT_FILE).read_bytes() == before
    units = runner.units_of(whole, list(ARTEFACTS.values()))
    assert "to do" not in runner.format_units([(whole, unit) for unit in units])


def test_another_plan_finds_what_it_shares(reproduced):
    """A longer grid keeps the trainings and attacks there are; another budget does not."""
    whole, _ = reproduced
    artefacts = [ARTEFACTS["table1"], ARTEFACTS["figure6"]]

    def left(**changes):
        other = small_study(whole.folder.parent, **changes)
        units = runner.units_of(other, artefacts)
        names = {unit.name for unit in units if study.read_unit(other, unit) is None}
        # Trainings are one unit for what they are run together for, and find their runs there.
        return {name for name in names if name == "training/none" or "training" not in name}

    assert left() == set()
    grown = left(lams=(1.0, 2.0, 5.0))
    assert "figure6/lam_2" in grown and "figure6/lam_1" not in grown
    assert {"training/none", "figure6/lam_1"} <= left(pretrain_epochs=1)


def test_an_interrupted_reproduction_goes_on(reproduced, tmp_path, monkeypatch):
    """Cut after every few units: the numbers are those of the uncut one."""
    _, results = reproduced
    artefacts = [ARTEFACTS[name] for name in ("table1", "figure3", "figure8")]
    do_unit, done = runner.do_unit, []

    def cut(*arguments):
        if len(done) in (1, 3):
            done.append("cut")
            raise KeyboardInterrupt
        done.append(arguments[1].name)
        return do_unit(*arguments)

    monkeypatch.setattr(runner, "do_unit", cut)
    again = small_study(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            runner.run_studies([again], artefacts, tmp_path / "results")
    assert runner.run_studies([again], artefacts, tmp_path / "results")
    names = [name for name in done if name != "cut"]
    assert len(names) == len(set(names))  # nothing twice
    (whole,), (cut_up,) = (study_files.read_results(r) for r in (results, tmp_path / "results"))

    def numbers(found):
        return [
            line.split(",", 1)[1]
            for line in study_files.format_measures(
                [r for r in found.rows if r["artefact"] in ("figure3", "figure8")]
            ).splitlines()
        ]

    assert numbers(whole) == numbers(cut_up)


def undefined(value, name=""):
    """The same row with no hits, no gain, no gradients and every other number zero."""
    if isinstance(value, dict) and "over_targets" in value:
        is_rate = name in ("summary.before", "summary.after") or "certificate" in name
        none = 0.0 if is_rate else None
        several = {
            "over_trainings": [none, none],
            "by_training": [none] * len(value.get("by_training", ())),
        }
        found = {"value": none, "over_targets": [none, none]}
        return found | (several if "by_training" in value else {})
    if isinstance(value, dict):
        inside = name if name == "summary" else ""
        return {
            key: undefined(
                item, "summary" if key == "summary" or key[:3] == "hr@" else f"{inside}.{key}"
            )
            for key, item in value.items()
        }
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [undefined(item, name) for item in value]
    return 0.0 if isinstance(value, float) else value


def test_undefined_values_are_said(reproduced):
    """No hit before, no content used, no gradient: the report says so and decides nothing."""
    _, results = reproduced
    (found,) = study_files.read_results(results)
    kept = ("trained_with", "threat_model", "evaluation")
    rows = [
        # As of a data set whose numbers the paper has, which go beside ours.
        {key: value if key in kept else undefined(value, key) for key, value in row.items()}
        | {"dataset": row["dataset"] | {"name": "baby"}}
        for row in found.rows
        if row["artefact"] not in ("table1", "appendix_c", "figure8")
    ]
    plan = dict(found.plan)
    text = report.format_report([found._replace(rows=rows, plan=plan)])
    assert "undefined" in text and not re.search(r"\b(nan|inf|None)\b", text)
    effects = [line for line in text.splitlines() if "| test |" in line and "L_align" in line]
    assert effects and not any(f"**{HOLDS}**" in line for line in effects)
    assert "(516.15)" in text
    study_files.draw(found._replace(rows=rows, plan=plan), results.parent / "undefined")


def test_figures_draw_the_intervals_of_the_tables_and_arrows_for_those_without_an_end():
    targets_alone = {"value": 1.0, "over_targets": [0.5, 2.0]}
    trainings = {"value": 3.0, "over_targets": [2.9, 3.1], "over_trainings": [1.0, 7.0]}
    open_above = {"value": 4.0, "over_targets": [3.0, 5.0], "over_trainings": [2.0, None]}
    figure, axis = plots.pyplot().subplots()
    plots._points(axis, np.arange(3), [targets_alone, trainings, open_above], "b", "o", "PGD")
    drawn, arrows = axis.containers
    (bars,), (upwards,) = drawn.lines[2], arrows.lines[2]
    ends = [sorted(segment[:, 1].tolist()) for segment in bars.get_segments()]
    assert ends == [[0.5, 2.0], [1.0, 7.0], [2.0, 4.0]]
    assert [segment[:, 0].tolist() for segment in upwards.get_segments()] == [[2.0, 2.0]]
    assert any(line.get_marker() == CARETUPBASE for line in arrows.lines[1])
    plots.pyplot().close(figure)


def test_the_arrow_of_a_gain_without_an_end_is_inside_the_figure(tmp_path, monkeypatch):
    gains = {("UAT", "pgd"): {"value": 224.0, "over_targets": [98.0, 500.0]}}
    tops, save = [], plots.save
    monkeypatch.setattr(
        plots,
        "save",
        lambda figure, *args: tops.append(figure.axes[0].get_ylim()[1]) or save(figure, *args),
    )
    others = {"Recall@10": {"UAT": 0.04}}
    plots.defences(tmp_path / "a.png", "closed", gains, {}, others)
    gains["UAT", "pgd"]["over_trainings"] = [98.0, None]
    plots.defences(tmp_path / "b.png", "open", gains, {}, others)
    assert tops[0] < 600 and tops[1] > 2.5 * 224.0  # the arrow ends at twice the value


def test_the_papers_digits_are_found_by_their_hits_and_not_by_others():
    """Digits made of known hits give these back; of two seeds' averages hardly ever any."""
    rng, trials = np.random.default_rng(0), 100 * 14_239
    for before in (339, 357, 499):
        after = before + rng.integers(20, 400, size=4)
        gains = [round(100 * (a / before - 1), 2) for a in after]
        found = digits.count_row(round(100 * before / trials, 3), gains, trials)
        assert before in found.before
        assert found.after[found.before.index(before)] == after.tolist()
    odd = [round(100 * (a / 714 - 1), 2) for a in (801, 811, 825, 843)]  # 357 a seed, of two
    assert not digits.count_row(0.025, odd, trials).before


def test_the_papers_rows_are_of_one_target_seed():
    """17 of 18: of Baby MMGCN's UAT-MC no number of hits gives all digits."""
    rows = [
        row
        for name, victim in dict.fromkeys(key[:2] for key in numbers.TABLE_2)
        for row in digits.rows_of(name, victim, numbers.TABLE_1[name][0])
    ]
    assert [len(rows), sum(bool(row["possible"]) for row in rows)] == [18, 17]


def test_rank_correlation():
    x = np.array([3.0, 1.0, 2.0, 5.0])
    assert rank_correlation(x, x**3) == pytest.approx(1.0)
    assert rank_correlation(x, -x) == pytest.approx(-1.0)
    assert rank_correlation(x, np.ones(4)) == 0.0
    # Ties share a rank: by the textbook formula on ranks (3, 1, 2, 4) and (2.5, 1, 2.5, 4).
    assert rank_correlation(x, np.array([2.0, 1.0, 2.0, 9.0])) == pytest.approx(0.9486833)


def test_an_artefact_is_computed_alone(tmp_path):
    arguments = "--config=configs/test.py", "--only=table1", f"--out={tmp_path}"
    found = call("experiments.reproduce", *arguments)
    assert found.returncode == 0, found.stderr
    results = tmp_path / "results"
    assert "### Table 1" in (results / report.REPORT_FILE).read_text()
    # Into a folder that is named, where rows may be that no OUT has, nothing else is written.
    before = {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}
    found = call("experiments.reproduce", *arguments, f"--results={results}", "--plan.targets=7")
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "test has rows of another targets. Name another --results" in found.stderr
    assert before == {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}
    same = small_study(tmp_path / "another")
    with pytest.raises(InputError, match=r"another .*pretrain\.batch_size.*, bootstrap"):
        study_files.require_same(same, results)
    study_files.require_same(same, tmp_path / "none")


def test_time_runs_out_before_a_unit_not_in_it(tmp_path):
    assert not runner.run_studies(
        [small_study(tmp_path)],
        [ARTEFACTS["table1"], ARTEFACTS["appendix_c"]],
        tmp_path / "results",
        minutes=0.1,
    )
    text = (tmp_path / "results" / report.REPORT_FILE).read_text()
    assert "not run" in text and "### Appendix C" not in text and "### Table 1" in text


def test_refusals(tmp_path, capsys):
    def refused(*arguments):
        found = call("experiments.reproduce", f"--out={tmp_path}", *arguments)
        assert found.returncode == 2 and found.stderr.count("\n") == 1, found.stderr
        return found.stderr

    assert "one of --config FILE, --all and --quick" in refused()
    assert "--only table9: wanted some of table1" in refused("--quick", "--only", "table9")
    one = dataclasses.replace(
        open_dataset(from_config(test_config.get_config()).data), modalities=("visual",)
    )
    with pytest.raises(InputError, match="visual and textual"):
        paper_study("one", from_config(test_config.get_config()), small_plan(), tmp_path, one)
    with pytest.raises(InputError, match="betas"):
        small_plan(betas=(0.0,))
    assert report.main([str(tmp_path)]) == 2 and report.main([]) == 2
    missing, unnamed = capsys.readouterr().err.splitlines()
    assert "no STUDY/rows/ARTEFACT.jsonl there" in missing and "name the folder" in unnamed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("results", COMMITTED, ids=lambda folder: folder.name)
def test_the_committed_report_is_that_of_the_committed_rows(results):
    studies = study_files.read_results(results)
    text = (results / report.REPORT_FILE).read_text(encoding="utf-8")
    assert report.format_report(studies, results) == text
    for found in studies:
        assert json.dumps(found.plan["settings"]["data"]["root"]) == '""'
