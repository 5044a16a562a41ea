"""Whole evaluations on a seconds-sized run: what is written, what goes on, what is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from configs import attack as attack_config
from configs import test as test_config
from tests.commands import call
from uatmc_jax import checkpoint, store
from uatmc_jax.benchmark import run as run_module
from uatmc_jax.benchmark.deltas import read_deltas
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.benchmark.suite import transfers
from uatmc_jax.benchmark.verdict import run_verdicts
from uatmc_jax.data import make_synthetic, write_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import mmgcn
from uatmc_jax.opened import open_run, open_runs
from uatmc_jax.report import format_attacks
from uatmc_jax.report.attack import format_verdicts
from uatmc_jax.settings import AttackRunSettings, from_config, from_values
from uatmc_jax.training import train_and_evaluate

SMALL = {"n_users": 60, "n_items": 60, "n_interactions": 600}
DATASET = dataclasses.replace(make_synthetic(3, **SMALL), name="small")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder, and the folder of the data it was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(DATASET, folder / "data" / "small")
    rows = "".join(f"B{i:09d}\t{i}\n" for i in range(DATASET.n_items))
    (folder / "data" / "small" / "i_id_mapping.csv").write_text("asin\titemID\n" + rows)
    titles = "".join(f'{i},"Mug, no. {i}"\n' for i in range(0, DATASET.n_items, 2))
    (folder / "data" / "small" / "items.csv").write_text("itemID,title\n" + titles)
    config = test_config.get_config()
    config.data.source, config.data.name = "mmrec", "small"
    config.data.root = str(folder / "data")
    train_and_evaluate(from_config(config), folder / "run")
    return folder / "run"


@pytest.fixture
def workdir(trained, tmp_path):
    """The run, to be attacked alone."""
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("attacks"))
    return tmp_path / "run"


def evaluation(preset="published", **changes):
    """configs/attack.py for the small data, typed."""
    config = attack_config.get_config(preset)
    config.targets.rule = "quantile"
    config.targets.quantiles = (0.0, 1.0)
    config.targets.sample = 6
    config.bootstrap = 50
    config.user_share = 0.5
    config.update_from_flattened_dict(changes)
    return from_values(AttackRunSettings, config)


def attack(settings, workdir, checkpoints=(), data_root=None, **options):
    """`run_attacks` on checkpoints of a run."""
    return run_attacks(settings, open_runs(workdir, checkpoints, data_root=data_root), **options)


def files(workdir):
    return sorted(p.name for p in (workdir / "attacks").iterdir())


@pytest.fixture(scope="module")
def attacked(trained):
    """The published attacks on a finished run: results and contents."""
    return attack(evaluation(), trained)


def test_results_name_their_threat_model_and_are_traceable(trained, attacked):
    results, contents = attacked
    assert [(r["checkpoint"]["stage"], r["checkpoint"]["which"], r["attack"]) for r in results] == [
        (stage, which, attack) for stage, which in _stages(trained) for attack in ("fgsm", "pgd")
    ]
    for result in results:
        assert result["dataset"]["fingerprint"] == DATASET.fingerprint
        assert result["threat_model"]["norm"] == "linf" and result["settings"]["seeds"] == [999]
        assert result["versions"]["jax"] and result["device"]["platform"] and result["users"] == 30
        assert len(result["rows"]) == 6 == result["summary"]["targets"]
        for row in result["rows"]:
            assert row["name"] == f"B{row['item']:09d}"
            assert row["title"] == (None if row["item"] % 2 else f"Mug, no. {row['item']}")
            for k in ("10", "20", "50"):
                assert row["hr_after"][k] <= row["budget_certificate"][k] + 1e-6
            assert len(row["utility_by_step"]) == result["threat_model"]["steps"] + 1
        mean = np.mean([row["hr_after"]["50"] for row in result["rows"]])
        assert result["summary"]["hr@50"]["after"]["value"] == pytest.approx(mean)
    summary = json.loads((trained / "summary.json").read_text())
    for content in contents:
        stage = content["checkpoint"]["stage"]
        if content["checkpoint"]["which"] == "best":
            expected = summary["stages"][stage]["test"]["recall@20"]
            recall = content["test"]["all"]["recall"]["own"]["value"]
            assert recall == pytest.approx(expected, abs=1e-6)
        counts = {row["interactions"] for result in results for row in result["rows"]}
        least, most = content["attacked_interactions"]
        assert least <= min(counts) and max(counts) <= most
    table = format_attacks(results, contents)
    assert "adversarial/best | pgd | 50" in table and "contribution" in table
    assert "inf%" not in table and "nan" not in table
    assert "does nothing" not in table
    aligned = [r | {"threat_model": r["threat_model"] | {"beta": 1.0}} for r in results]
    assert "Under hinge the alignment term does nothing on vbpr" in format_attacks(
        aligned, contents
    )


def _stages(workdir):
    best = checkpoint.saved_epoch(workdir, "adversarial", "best")
    latest = checkpoint.saved_epoch(workdir, "adversarial", "latest")
    pairs = [("pretrain", "best"), ("adversarial", "best"), ("adversarial", "latest")]
    return pairs[:2] if best == latest else pairs


def test_the_same_command_finds_everything_done(trained, attacked, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in (trained / "attacks").iterdir()}
    monkeypatch.setattr(run_module, "attack_batches", None)  # must not be called
    monkeypatch.setattr("uatmc_jax.benchmark.content.measure_hits", None)
    again = attack(evaluation(), trained)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(attacked))
    assert before == {p: p.stat().st_mtime_ns for p in (trained / "attacks").iterdir()}


def test_an_interrupted_evaluation_goes_on(workdir, attacked, monkeypatch):
    """Stopped after each batch in turn, and once in the middle of writing a row."""
    settings = evaluation(memory_mib=1e-3)  # one target a batch
    append, calls = store.append_rows, []

    def stopping(file, rows):
        append(file, rows)
        calls.append(file)
        if len(calls) % 4 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "append_rows", stopping)
    results = None
    for _ in range(20):
        try:
            results, _ = attack(settings, workdir, checkpoints=[("pretrain", "best")])
            break
        except KeyboardInterrupt:
            calls[-1].write_text(calls[-1].read_text() + '{"seed": 999, "it')
    assert results is not None and len(calls) == 12
    assert not [name for name in files(workdir) if "partial" in name]
    kept = {result["attack"]: read_deltas(result) for result in results}
    whole = {r["attack"]: r for r in attacked[0] if r["checkpoint"]["stage"] == "pretrain"}
    for result in results:
        expected = whole[result["attack"]]["rows"]
        assert [row["item"] for row in result["rows"]] == [row["item"] for row in expected]
        for got, wanted in zip(result["rows"], expected, strict=True):
            assert got["hr_after"] == wanted["hr_after"]
            assert got["utility_after"] == pytest.approx(wanted["utility_after"], rel=1e-5)
        deltas = read_deltas(whole[result["attack"]])
        assert tuple(deltas.rows) == DATASET.modalities
        assert deltas.items.tolist() == [row["item"] for row in expected]
        for name, there in deltas.rows.items():
            np.testing.assert_allclose(kept[result["attack"]].rows[name], there, atol=1e-6)


@pytest.mark.parametrize("line", ["{}", "5", "not JSON"])
def test_a_journal_of_something_else_is_told(workdir, monkeypatch, line):
    def stop(*_):
        raise KeyboardInterrupt

    only = {"checkpoints": [("pretrain", "best")], "only": ["fgsm"]}
    monkeypatch.setattr(store, "append_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        attack(evaluation(), workdir, **only)
    (part,) = (workdir / "attacks").glob("*.partial-*.npz")
    journal = part.with_name(part.name.partition(".")[0] + ".partial.jsonl")
    journal.write_text(line + "\n")
    with pytest.raises(InputError, match=r"partial\.jsonl.*Delete it"):
        attack(evaluation(), workdir, **only)
    journal.unlink()
    np.savez(part, other=np.zeros(1))
    with pytest.raises(InputError, match=r"partial-000000\.npz.*Delete it"):
        attack(evaluation(), workdir, **only)


def test_the_same_items_are_the_same_files_whatever_they_are_called(trained, workdir):
    only = {"checkpoints": [("pretrain", "best")], "only": ["fgsm"]}

    def named(*ids):
        by_ids = {"targets.rule": "ids", "targets.ids": ids}
        (result,), _ = attack(evaluation(**by_ids), workdir, **only)
        return [(row["item"], row["name"], row["title"]) for row in result["rows"]]

    expected = [(3, "B000000003", None), (8, "B000000008", "Mug, no. 8")]
    assert named("Mug, no. 8", "B000000003") == named("#3,B000000008") == expected
    assert len(list((workdir / "attacks").glob("*-fgsm-*.json"))) == 1
    # A name that has come to mean another item is another attack.
    moved = workdir.parent / "moved"
    shutil.copytree(trained.parent / "data", moved)
    names = moved / "small" / "i_id_mapping.csv"
    names.write_text("asin\titemID\nB000000003\t4\nB9\t8\n")
    (result,), _ = attack(
        evaluation(**{"targets.rule": "ids", "targets.ids": ("B000000003",)}),
        workdir, data_root=str(moved), **only,
    )  # fmt: skip
    assert [row["item"] for row in result["rows"]] == [4]
    (result,), _ = attack(
        evaluation(**{"targets.rule": "ids", "targets.ids": ("#3,#8",)}),
        workdir, data_root=str(moved), **only,
    )  # fmt: skip
    assert [row["name"] for row in result["rows"]] == [None, "B9"]  # as they are called now
    assert len(list((workdir / "attacks").glob("*-fgsm-*.json"))) == 2


def test_other_settings_are_other_files(workdir):
    only = {"checkpoints": [("pretrain", "best")], "only": ["pgd"]}
    attack(evaluation(), workdir, **only)
    attack(evaluation(**{"attacks.pgd.eps": 0.05}), workdir, **only)
    attack(evaluation(seeds=(1, 2)), workdir, **only)
    assert len(list((workdir / "attacks").glob("*-pgd-*.json"))) == 3
    attack(evaluation(memory_mib=7.0), workdir, **only)  # changes no number
    assert len(list((workdir / "attacks").glob("*-pgd-*.json"))) == 3


def test_several_seeds_have_their_own_targets_and_intervals(workdir):
    (result,), _ = attack(
        evaluation(seeds=(1, 2)), workdir, checkpoints=[("pretrain", "best")], only=["fgsm"]
    )
    drawn = {s: {r["item"] for r in result["rows"] if r["seed"] == s} for s in (1, 2)}
    assert len(drawn[1]) == len(drawn[2]) == 6 and drawn[1] != drawn[2]
    assert result["summary"]["seeds"] == 2 and "over_seeds" in result["summary"]["hr@10"]["gain"]


def test_the_paper_preset_attacks_features_and_certifies_any_content_only(workdir):
    results, _ = attack(
        evaluation("paper"), workdir, checkpoints=[("adversarial", "best")], only=["pgd_aligned"]
    )
    (result,) = results
    assert result["certificate"].startswith("any content; no budget certificate")
    for row in result["rows"]:
        assert "budget_certificate" not in row
        assert row["hr_after"]["10"] <= row["any_content_certificate"]["10"] + 1e-6
    table = format_attacks(results, [_a_content(workdir)])
    assert "| none |" in table and "Budget certificate" not in table


def _a_content(workdir):
    (path,) = (workdir / "attacks").glob("*-content-*.json")
    return json.loads(path.read_text())


JUDGED = ("pgd", "random", "transfer_first")


def judged(workdir, surrogates, **changes):
    """Verdicts on the last hardened epoch, with a transfer from a surrogate named "first"."""
    few = {"attacks.random.steps": 9, "targets.sample": 12}
    settings = evaluation("suite", **(few | changes))
    carried = transfers(settings.attacks["pgd"], ["first"])
    settings = dataclasses.replace(settings, attacks={**settings.attacks, **carried})
    runs = open_runs(workdir, [("adversarial", "latest")])
    others = {name: open_run(*where) for name, where in surrogates.items()}
    return run_verdicts(settings, runs, surrogates=others, only=JUDGED)


def test_a_verdict_with_a_transfer_from_the_same_projectors(workdir, monkeypatch):
    """The hardened model's projectors are those of its first stage, frozen."""
    first = {"first": (workdir, "pretrain/best")}
    results, _, (found,) = judged(workdir, first)
    assert [r["attack"] for r in results] == ["pgd", "random", "transfer_first"]
    carried = results[-1]
    assert carried["surrogate"]["stage"] == "pretrain" and results[0]["surrogate"] is None
    assert carried["surrogate"]["parameters"] != carried["checkpoint"]["parameters"]
    for row, known in zip(carried["rows"], results[0]["rows"], strict=True):
        assert row["hr_before"] == known["hr_before"]
        assert row["utility_by_step"] == [row["utility_before"], row["utility_after"]]
        assert row["hr_after"]["50"] <= row["budget_certificate"]["50"] + 1e-6
    weaker = [entry["weaker"] for entry in found["comparisons"]]
    assert weaker == ["random", "transfer_first"] and sum(found["wins"].values()) == 12
    best = [max(r["rows"][n]["hr_after"]["50"] for r in results) for n in range(12)]
    assert found["suite"]["hr@50"]["after"]["value"] == pytest.approx(np.mean(best))
    (written,) = (workdir / "attacks").glob("*-verdict-*.json")
    assert store.read_json(written) == found
    names = files(workdir)
    monkeypatch.setattr(run_module, "attack_batches", None)  # must not be called
    monkeypatch.setattr(run_module, "transfer_batches", None)
    assert judged(workdir, first)[2] == [found] and files(workdir) == names
    text = format_verdicts([found]) + format_attacks(results, [_a_content(workdir)])
    assert "Verdict of the suite, HR@50" in text and "crafted on first" in text


def test_verdicts_and_surrogates_refused_before_any_work(workdir, monkeypatch):
    first = {"first": (workdir, "pretrain/best")}
    for surrogates, changes, message in (
        ({}, {}, "config.attacks.transfer_first.surrogate = 'first': no such surrogate"),
        (first, {"attacks.random.k": 20}, "config.attacks.random.k = 20, but config.attacks.pgd.k"),
        (first, {"ks": (10,)}, "the verdict at K = 50 needs it"),
    ):
        with pytest.raises(InputError, match=message):
            judged(workdir, surrogates, **changes)
    restore = checkpoint.restore

    def other_projectors(folder, stage, *rest):
        restored = restore(folder, stage, *rest)
        moved = jax.tree.map(lambda x: 1.5 * x + 0.1, restored.params.projectors)
        own = stage == "adversarial"
        return restored if own else restored._replace(
            params=restored.params.replace(projectors=moved)
        )  # fmt: skip

    monkeypatch.setattr(checkpoint, "restore", other_projectors)
    with pytest.raises(InputError, match="surrogate first and victim adversarial/latest do not"):
        judged(workdir, first)
    assert not (workdir / "attacks").exists()


REFUSED = {
    "K > items": ({"ks": (10, 61)}, {}, "config.ks: K = 61 exceeds the 60 items"),
    "attack's K > items": ({"attacks.pgd.k": 99}, {}, "config.attacks.pgd.k: K = 99 exceeds"),
    "K > unmasked": ({"masked": True, "ks": (58,)}, {}, "not some user's training items"),
    "unknown modality": ({"attacks.pgd.modalities": ("audio",)}, {}, "'audio' is not one of"),
    "alignment of one": (
        {"attacks.pgd.modalities": ("visual",), "attacks.pgd.beta": 1.0},
        {},
        "alignment needs two",
    ),
    "unknown ASIN": (
        {"targets.rule": "ids", "targets.ids": ("B00NOPE",)},
        {},
        "'B00NOPE': no item has this",
    ),
    "empty pool": ({"targets.rule": "count", "targets.count": 999}, {}, "has 0 items with exactly"),
    "unknown attack": ({}, {"only": ["cw"]}, "--attacks cw: the config has fgsm, pgd"),
    "unknown stage": ({}, {"checkpoints": [("final", "best")]}, "wanted 'pretrain' or 'adver"),
    "no data": ({}, {"data_root": "nowhere"}, "nowhere/small is not a folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_any_work(workdir, name):
    changes, options, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        attack(evaluation(**changes), workdir, **options)
    assert not (workdir / "attacks").exists()


def test_a_checkpoint_of_other_data_is_refused(workdir, tmp_path):
    other = dataclasses.replace(make_synthetic(4, **SMALL), name="small")
    write_dataset(other, tmp_path / "other" / "small")
    with pytest.raises(InputError, match="fingerprint"):
        attack(evaluation(), workdir, data_root=str(tmp_path / "other"))


BAD_VALUES = {
    "budget": ({"attacks.pgd.eps": -0.1}, "config.attacks.pgd.eps = -0.1: wanted a number >= 0"),
    "norm": ({"attacks.pgd.norm": "l1"}, "config.attacks.pgd.norm = 'l1'"),
    "steps": ({"attacks.fgsm.steps": 0}, "config.attacks.fgsm.steps = 0"),
    "step size": ({"attacks.fgsm.step_size": 0.0}, "config.attacks.fgsm.step_size"),
    "share": ({"user_share": 0.0}, "config.user_share = 0.0"),
    "share above one": ({"user_share": 1.5}, "config.user_share"),
    "no ks": ({"ks": ()}, "config.ks"),
    "no seeds": ({"seeds": ()}, "config.seeds"),
    "a seed twice": ({"seeds": (1, 1)}, "config.seeds"),
    "rule": ({"targets.rule": "all"}, "config.targets.rule"),
    "no ids": ({"targets.rule": "ids"}, "at least one item under"),
    "quantiles": ({"targets.quantiles": (0.5, 0.1)}, "config.targets.quantiles"),
    "scorer": ({"scorer": "fast"}, "config.scorer"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_values_name_their_field(name):
    changes, message = BAD_VALUES[name]
    with pytest.raises(InputError, match=message):
        evaluation(**changes)


def test_nothing_trained(tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        attack(evaluation(), tmp_path / "nothing")


def test_a_model_with_new_draws_of_what_its_checkpoints_leave_out(trained):
    """MMGCN's P^m, anew for each seed; the rest stays, and VBPR leaves out nothing."""
    model = mmgcn(DATASET.sizes, dim=8)
    params = jax.jit(model.init)(jax.random.key(0))
    run = open_run(trained)._replace(model=model, params=params)
    first, again, other = (run_module.redrawn(run, seed).encoder for seed in (1, 1, 2))
    for tower, same, new, old in zip(
        first.towers, again.towers, other.towers, params.encoder.towers, strict=True
    ):
        np.testing.assert_array_equal(tower.preference, same.preference)
        assert not np.array_equal(tower.preference, new.preference)
        assert not np.array_equal(tower.preference, old.preference)
        assert float(tower.preference.std()) == pytest.approx(float(old.preference.std()), rel=0.2)
        assert tower.layers is old.layers
    with pytest.raises(InputError, match=r"config\.redraw = True.*vbpr leave out"):
        attack(evaluation(redraw=True), trained)


@pytest.mark.long  # a command from end to end
def test_the_command_line(trained):
    arguments = [
        "uatmc_jax.attack", f"--workdir={trained}", "--checkpoints=pretrain/best",
        "--config=configs/attack.py:suite", "--attacks=fgsm,transfer_run-pretrain-best",
        f"--surrogates={trained}/pretrain/best", "--verdict", "--config.bootstrap=20",
        "--items=B000000007", "--items=Mug, no. 12",
    ]  # fmt: skip
    result = call(*arguments)
    assert result.returncode == 0, result.stderr
    assert "| pretrain/best | fgsm | 50 |" in result.stdout
    assert "2 attacks of one item each" in result.stdout
    assert "not compared: 2 targets, fewer than 10" in result.stdout
    assert "| #7 | B000000007 |  | pretrain/best | " in result.stdout
    assert "| #12 | B000000012 | Mug, no. 12 | pretrain/best | " in result.stdout
    for extra, message in (
        ("--items=B1", "config.targets.ids (--items): item 'B1': no item has this id"),
        ("--items=7", "Write '#7' for the internal number"),
        ("--config.targets.ids=('B1',)", "--items and config.targets.ids both name items"),
        ("--config.attacks.fgsm.eps=-1", "config.attacks.fgsm.eps"),
        ("--checkpoints=pretrain", "wanted STAGE/WHICH"),
        (f"--surrogates={trained}/pretrain/best,a/run/pretrain/best", "would have one name"),
        ("--config=configs/attack.py:draft", "presets are published, paper, suite"),
    ):
        refused = call(*arguments, extra)
        assert refused.returncode == 2 and message in refused.stderr
        assert refused.stderr.count("\n") == 1 and refused.stderr.startswith("error: ")
