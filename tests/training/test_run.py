"""Whole runs on seconds-sized settings: what is written, what resumes, what is refused."""

import collections
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import ROOT
from uatmc_jax import checkpoint, logs, owner, store
from uatmc_jax.data import make_synthetic
from uatmc_jax.errors import DivergedError, InputError, Interrupted
from uatmc_jax.evaluation.metrics import make_measure
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.settings import from_config
from uatmc_jax.training import folder as folder_module
from uatmc_jax.training import run as run_module
from uatmc_jax.training import train_and_evaluate

SMALL = {"n_users": 60, "n_items": 60, "n_interactions": 600}


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    """Every run here reads this data in place of what its config names."""
    dataset = make_synthetic(3, **SMALL)
    monkeypatch.setattr(run_module, "open_dataset", lambda settings: dataset)
    return dataset


def assert_same_parameters(first, second, stages=checkpoint.STAGES):
    for stage in stages:
        for which in checkpoint.WHICH:
            a, b = (checkpoint.restore(w, stage, which) for w in (first, second))
            assert a.meta["epoch"] == b.meta["epoch"]
            jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run of configs/test.py and its folder."""
    from configs import test as test_config

    workdir = tmp_path_factory.mktemp("finished") / "run"
    patch = pytest.MonkeyPatch()
    patch.setattr(run_module, "open_dataset", lambda settings: make_synthetic(3, **SMALL))
    with patch.context():
        summary = train_and_evaluate(from_config(test_config.get_config()), workdir)
    patch.undo()
    return workdir, summary


def test_everything_is_written(finished):
    workdir, summary = finished
    assert {p.name for p in workdir.iterdir()} == {*folder_module.OUTPUTS, owner.LOCK}
    assert store.read_json(workdir / "summary.json") == json.loads(json.dumps(summary))
    records = logs.read_records(workdir)
    assert [(r["stage"], r["epoch"]) for r in records] == [
        ("pretrain", 1), ("pretrain", 2), ("adversarial", 1), ("adversarial", 2),
    ]  # fmt: skip
    assert records[0]["losses"].keys() == {"loss", "bpr", "reg", "nce"}
    assert records[2]["losses"].keys() == {"loss", "bpr", "reg", "adv"}
    assert {
        f"{m}@{k}" for m in ("recall", "ndcg", "precision", "map") for k in (5, 10, 20, 50)
    } == (records[0]["valid"].keys())
    assert list((workdir / "tensorboard").rglob("events*"))
    assert not list(workdir.rglob("*.partial"))
    for stage in checkpoint.STAGES:
        assert summary["stages"][stage]["test"]["recall@50"] > 0
    assert summary["versions"]["jax"] == jax.__version__
    assert summary["stages"]["adversarial"]["at_last_epoch"].keys() == {"valid", "test"}


def test_restored_model_scores_as_reported(finished, small_data):
    workdir, summary = finished
    for stage in checkpoint.STAGES:
        restored = checkpoint.restore(workdir, stage, "best", small_data, "vbpr")
        data = small_data.on_device
        plan = make_plan(small_data.train, small_data.n_users, small_data.n_items)
        measure = make_measure(restored.model, data, plan, (20,))
        held_out = small_data.held_out("test")
        z = restored.model.project(restored.params.projectors, data.features)
        for known in (None, z):  # projected afresh, or given
            (metrics,) = measure(restored.params, known, [held_out])
        got = float(metrics["recall@20"])
        assert got == pytest.approx(summary["stages"][stage]["test"]["recall@20"], abs=1e-7)


def test_adversarial_stage_leaves_the_projectors_alone(finished):
    workdir, _ = finished
    before = checkpoint.restore(workdir, "pretrain", "best").params
    after = checkpoint.restore(workdir, "adversarial", "latest").params
    jax.tree.map(np.testing.assert_array_equal, before.projectors, after.projectors)
    assert not np.array_equal(before.encoder.kernel, after.encoder.kernel)


def test_same_seed_same_bits_and_other_seed_others(finished, config, tmp_path):
    workdir, _ = finished
    train_and_evaluate(from_config(config), tmp_path / "again")
    assert_same_parameters(workdir, tmp_path / "again")
    config.seed = 1
    config.adversarial.epochs = 0
    train_and_evaluate(from_config(config), tmp_path / "other")
    a, b = (checkpoint.restore(w, "pretrain").params for w in (workdir, tmp_path / "other"))
    assert not np.array_equal(a.encoder.user, b.encoder.user)


def interrupt_and_resume(settings, workdir, monkeypatch, stop_after):
    """A run stopped by Ctrl-C after so many epochs, and its resumption."""
    append = logs.append_record

    def interrupting(folder, record):
        append(folder, record)
        if len(logs.read_records(folder)) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(logs, "append_record", interrupting)
    with pytest.raises(Interrupted):
        train_and_evaluate(settings, workdir)
    monkeypatch.setattr(logs, "append_record", append)
    assert len(logs.read_records(workdir)) == stop_after
    train_and_evaluate(settings, workdir, resume=True)


def test_a_learned_last_layer_resumes_to_the_same_bits(finished, config, tmp_path, monkeypatch):
    config.pretrain.init_from = str(finished[0])
    config.adversarial.update(defense="exact", train_projector_head=True, epochs=2)
    settings = from_config(config)
    train_and_evaluate(settings, tmp_path / "whole")
    interrupt_and_resume(settings, tmp_path / "cut", monkeypatch, stop_after=1)
    assert_same_parameters(tmp_path / "whole", tmp_path / "cut", ["adversarial"])
    # And what was trained is what is kept.
    before, after = (
        checkpoint.restore(tmp_path / "whole", *pair).params.projectors
        for pair in (("pretrain", "best"), ("adversarial", "latest"))
    )
    assert not jax.tree.all(jax.tree.map(np.array_equal, before, after))


@pytest.mark.parametrize("stop_after", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_interrupted_run_resumes_to_the_same_bits(
    finished, config, tmp_path, monkeypatch, stop_after
):
    """Ctrl-C in either stage: the state is saved, and --resume repeats no record."""
    workdir = tmp_path / "run"
    interrupt_and_resume(from_config(config), workdir, monkeypatch, stop_after)
    assert_same_parameters(finished[0], workdir)

    def numbers(folder):
        return [{k: v for k, v in r.items() if k != "seconds"} for r in logs.read_records(folder)]

    assert numbers(workdir) == numbers(finished[0])


def test_a_crash_within_an_epoch_loses_no_more_than_a_chunk(
    finished, config, tmp_path, monkeypatch
):
    """Three steps an epoch in chunks of two: cut off after one of the second epoch's."""
    config.pretrain.init_from = str(finished[0])
    config.checkpoint.update(chunk_steps=2, every_seconds=0.0)
    settings, save, written = from_config(config), checkpoint.save, []

    def crashing(workdir, stage, which, *given):
        save(workdir, stage, which, *given)
        written.append(which)
        if written.count("within") == 2:
            raise OSError("cut off")

    monkeypatch.setattr(checkpoint, "save", crashing)
    with pytest.raises(OSError, match="cut off"):
        train_and_evaluate(settings, tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", save)
    meta = checkpoint.load_meta(tmp_path / "run", "adversarial", "within")
    assert (meta["epoch"], meta["step"], meta["number"]) == (1, 2, 5)
    train_and_evaluate(settings, tmp_path / "run", resume=True)
    assert_same_parameters(finished[0], tmp_path / "run", ["adversarial"])
    assert checkpoint.saved_epoch(tmp_path / "run", "adversarial", "within") is None
    whole, chunked = (logs.read_records(w)[-2:] for w in (finished[0], tmp_path / "run"))
    for one, other in zip(whole, chunked, strict=True):
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-6)
        assert other["valid"] == one["valid"]


@pytest.mark.slow
@pytest.mark.parametrize("chunk_steps", [0, 1])
def test_killed_run_resumes_to_the_same_bits(config, tmp_path, chunk_steps):
    """kill -9 in the middle of an epoch, in another process."""
    config.checkpoint.chunk_steps = chunk_steps
    config.pretrain.epochs = 12
    config.checkpoint.every_seconds = 0.0
    program = (
        "import sys, json\n"
        "from uatmc_jax.data import make_synthetic\n"
        "from uatmc_jax.settings import from_config\n"
        "from uatmc_jax.training import run\n"
        f"run.open_dataset = lambda settings: make_synthetic(3, **{SMALL})\n"
        "run.train_and_evaluate(from_config(json.loads(sys.argv[1])), sys.argv[2])\n"
    )
    settings = from_config(config)
    arguments = [json.dumps(run_module.to_dict(settings)), str(tmp_path / "killed")]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        metrics = tmp_path / "killed" / logs.METRICS_FILE
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    epochs = len(logs.read_records(tmp_path / "killed"))
    assert 3 <= epochs < 12  # it was killed on the way
    train_and_evaluate(settings, tmp_path / "killed", resume=True)
    train_and_evaluate(settings, tmp_path / "whole")
    assert_same_parameters(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    "writes", [2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, 7))]
)
def test_a_crash_between_any_two_writes_loses_nothing(
    finished, config, tmp_path, monkeypatch, writes
):
    """Odd numbers of writes leave "best" newer than "latest"."""
    config.checkpoint.every_seconds = 0.0
    save, calls = checkpoint.save, []

    def crashing(*arguments):
        if len(calls) == writes:
            raise SystemExit("crash")
        calls.append(arguments)
        save(*arguments)

    monkeypatch.setattr(checkpoint, "save", crashing)
    with pytest.raises(SystemExit, match="crash"):
        train_and_evaluate(from_config(config), tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", save)
    train_and_evaluate(from_config(config), tmp_path / "run", resume=True)
    assert_same_parameters(finished[0], tmp_path / "run")


def test_resuming_a_finished_run_changes_nothing(finished, settings):
    workdir, summary = finished
    files = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    again = train_and_evaluate(settings, workdir, resume=True)
    assert again == json.loads(json.dumps(summary))
    assert files == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


@pytest.mark.long  # compiles three runs
def test_mmgcn_and_one_and_three_modalities_run(config, tmp_path, monkeypatch, small_data):
    audio = np.random.default_rng(0).normal(size=(small_data.n_items, 5)).astype(np.float32)
    variants = {
        "one": dataclasses.replace(
            small_data, modalities=("visual",), features=small_data.features[:1]
        ),
        "three": dataclasses.replace(
            small_data,
            modalities=(*small_data.modalities, "audio"),
            features=(*small_data.features, audio),
        ),
    }
    config.pretrain.epochs = config.adversarial.epochs = 1
    vbpr = config.model.to_dict()
    for name, dataset in variants.items():
        own = {"name": "mmgcn", "latent_dims": {"visual": 12}, "n_layers": 1}
        config.model = ConfigDict(vbpr | (own if name == "one" else {}))
        monkeypatch.setattr(run_module, "open_dataset", lambda settings, d=dataset: d)
        config.adversarial.defense = "uat" if name == "one" else "uat_mc"
        summary = train_and_evaluate(from_config(config), tmp_path / name)
        assert summary["stages"]["adversarial"]["test"]["recall@50"] > 0


def test_init_from_takes_the_pretrained_state(finished, config, tmp_path):
    workdir, summary = finished
    config.pretrain.init_from = str(workdir)
    got = train_and_evaluate(from_config(config), tmp_path / "run")
    expected = summary["stages"]["adversarial"]["test"]
    assert got["stages"]["adversarial"]["test"] == expected
    config.model.dim = 9
    with pytest.raises(InputError, match="differs in dim"):
        train_and_evaluate(from_config(config), tmp_path / "other")
    with pytest.raises(InputError, match="is the workdir itself"):
        train_and_evaluate(from_config(config), workdir, overwrite=True)
    assert checkpoint.saved_epoch(workdir, "pretrain", "best")


def test_an_init_from_run_resumes_without_its_source(finished, config, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(finished[0], source)
    config.pretrain.init_from = str(source)
    first = train_and_evaluate(from_config(config), tmp_path / "run")
    shutil.rmtree(source)
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been stopped before the end
    again = train_and_evaluate(from_config(config), tmp_path / "run", resume=True)
    assert again["stages"]["adversarial"] == first["stages"]["adversarial"]
    assert checkpoint.load_meta(tmp_path / "run", "pretrain", "best")["copied_from"] == str(source)


def test_early_stop_after_patience(config, tmp_path):
    config.pretrain.epochs = 30
    config.pretrain.patience = 1
    config.pretrain.optimizer.learning_rate = 1e-9  # nothing gets better
    config.adversarial.epochs = 0
    summary = train_and_evaluate(from_config(config), tmp_path / "run")
    assert summary["stages"]["pretrain"]["epochs"] < 30


def test_divergence_names_stage_epoch_and_checkpoint(config, tmp_path):
    config.pretrain.optimizer.learning_rate = 1e20
    with pytest.raises(DivergedError, match=r"stage pretrain, epoch 1.*none yet in this stage"):
        train_and_evaluate(from_config(config), tmp_path / "run")


def test_divergence_in_the_second_stage(config, tmp_path):
    config.pretrain.epochs = 1
    config.adversarial.lam = 1e39  # infinite in float32
    with pytest.raises(DivergedError, match=r"stage adversarial, epoch 1, step 1 of \d+: loss"):
        train_and_evaluate(from_config(config), tmp_path / "run")


REFUSED = {
    "not empty": ({}, {}, "not empty"),
    "both flags": ({"resume": True, "overwrite": True}, {}, "exclude each other"),
    "other settings": ({"resume": True}, {"adversarial.lam": 7.0}, "config.adversarial.lam"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_leave_the_run_alone(finished, config, name):
    flags, changes, message = REFUSED[name]
    config.update_from_flattened_dict(changes)
    before = (finished[0] / "summary.json").read_bytes()
    with pytest.raises(InputError, match=message):
        train_and_evaluate(from_config(config), finished[0], **flags)
    assert (finished[0] / "summary.json").read_bytes() == before


def test_what_a_kill_left_of_the_first_file_is_no_run(settings, tmp_path):
    (tmp_path / "config.json.partial").write_text("{")
    folder_module.check_workdir(settings, tmp_path, resume=False, overwrite=False)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"not empty \(config\.json\)"):
        folder_module.check_workdir(settings, tmp_path, resume=False, overwrite=False)


def test_nothing_to_resume(settings, tmp_path):
    with pytest.raises(InputError, match="no run to resume"):
        train_and_evaluate(settings, tmp_path, resume=True)


def test_overwrite_removes_only_a_runs_own_files(settings, tmp_path):
    train_and_evaluate(settings, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train_and_evaluate(settings, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert len(logs.read_records(tmp_path / "run")) == 4


def test_too_deep_a_ranking_is_refused_before_work(config, tmp_path):
    config.eval.ks = (20, 61)
    with pytest.raises(InputError, match="K = 61 exceeds the 60 items"):
        train_and_evaluate(from_config(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resume_refuses_other_data(finished, settings, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    other = make_synthetic(4, **SMALL)
    monkeypatch.setattr(run_module, "open_dataset", lambda settings: other)
    with pytest.raises(InputError, match="fingerprint"):
        train_and_evaluate(settings, tmp_path / "run", resume=True)


RESTORE = {
    "no run": ({"workdir": "nowhere"}, "no checkpoint"),
    "unknown stage": ({"stage": "finetune"}, "wanted 'pretrain' or 'adversarial'"),
    "unknown which": ({"which": "worst"}, "wanted 'best', 'latest', or"),
    "other model": ({"model": "mmgcn"}, "of model 'vbpr', not 'mmgcn'"),
    "other data": ({"dataset": make_synthetic(4, **SMALL)}, "fingerprint"),
}


@pytest.mark.parametrize("name", RESTORE)
def test_restore_refuses(finished, name):
    arguments, message = RESTORE[name]
    with pytest.raises(InputError, match=message):
        checkpoint.restore(**({"workdir": finished[0]} | arguments))


def test_a_checkpoint_written_on_another_device_restores_here(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    described = list((tmp_path / "run").rglob("_sharding"))
    for file in described:
        text = file.read_text()
        here = f"{jax.devices()[0].platform}:0"
        assert here in text
        file.write_text(text.replace(here, "elsewhere:0"))
    for file in (tmp_path / "run").rglob("files.json"):
        file.unlink()  # as of an older version, too
    assert described
    restored = checkpoint.restore(tmp_path / "run")
    jax.tree.map(
        np.testing.assert_array_equal, restored.params, checkpoint.restore(finished[0]).params
    )


def test_a_checkpoint_that_finds_no_room_is_not_begun(tmp_path, monkeypatch):
    arrays = {"a": np.zeros(1 << 18, np.float32)}
    room = collections.namedtuple("room", "free")
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: room(2 << 20))
    with pytest.raises(InputError, match=r"run: a checkpoint takes 2\.3 MiB, .* than 2\.0\. Make"):
        checkpoint.save(tmp_path / "run", "pretrain", "best", arrays, arrays, {"epoch": 1})
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: room(3 << 20))
    checkpoint.save(tmp_path / "run", "pretrain", "best", arrays, arrays, {"epoch": 1})
    assert checkpoint.saved_epoch(tmp_path / "run", "pretrain", "best") == 1


def test_reading_makes_no_folder(tmp_path):
    """--overwrite in another process may be removing it."""
    with contextlib.suppress(Exception):
        checkpoint._manager(tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def test_damaged_checkpoint_is_named(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    folder = checkpoint.folder(tmp_path / "run", "pretrain", "best")
    for file in folder.rglob("*"):
        if (file.is_file() and "ocdbt" in str(file)) or file.name == "manifest.ocdbt":
            file.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"pretrain/best/\d+/.*: was damaged since it was written"):
        checkpoint.restore(tmp_path / "run", "pretrain")
