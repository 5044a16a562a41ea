"""Several processes share one plan: nothing twice, nothing too early, no one ends too soon."""

import threading
import time

import jax
import pytest

from experiments import runner, study
from experiments.study import Unit
from tests.experiments.test_reproduce import small_study
from uatmc_jax.errors import InputError
from uatmc_jax.owner import owned


def unit(name, log, *, seconds=0.0, leaves=None, needs=()):
    def run(tell):
        log.append(name)
        time.sleep(seconds)
        if leaves:
            leaves.parent.mkdir(parents=True, exist_ok=True)
            leaves.touch()
        return [{"seed": 0}]

    return Unit(name, {"name": name}, 1.0, run, tuple(needs))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return small_study(tmp_path_factory.mktemp("runner"))


@pytest.fixture
def whole(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_WAIT_SECONDS", 0.01)
    return opened._replace(folder=tmp_path)


def test_units_are_done_once_and_after_what_they_need(whole, tmp_path):
    log, trained = [], tmp_path / "runs" / "summary.json"
    units = [unit("measure/of it", log, needs=[trained])]
    units += [unit(f"table/{n}", log, seconds=0.02) for n in range(12)]
    units += [unit("training/it", log, seconds=0.1, leaves=trained)]
    plan, ended = [(whole, one) for one in units], []

    def work():
        assert runner.run_units(plan)
        ended.append(all(study.read_unit(*one) for one in plan))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(log) == sorted(one.name for one in units)
    assert log.index("measure/of it") > log.index("training/it")
    assert ended == [True] * 3  # who had nothing left to do has waited for the others


@pytest.mark.parametrize("cached", [False, True])
def test_the_first_of_a_kind_compiles_alone(whole, tmp_path, cached):
    """With a compilation cache; without one nothing is won by waiting."""
    events = []
    together = {"table": threading.Barrier(3), "training": threading.Barrier(3)}

    def of(name):
        kind = name.partition("/")[0]

        def run(tell):
            events.append(name)
            if kind == "training" or not cached:
                together[kind].wait(timeout=60)  # all three have begun, or it is broken
            else:
                time.sleep(0.05)
            events.append(name)
            return [{"seed": 0}]

        return Unit(name, {"name": name}, 1.0, run)

    plan = [(whole, of(f"{kind}/{n}")) for kind in ("table", "training") for n in range(3)]
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache") if cached else None)
    try:
        workers = [threading.Thread(target=runner.run_units, args=(plan,)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    tables = [name for name in events if name.startswith("table")]
    assert len(events) == 12
    assert (tables[0] == tables[1]) == cached


def test_what_is_being_attacked_elsewhere_comes_later(whole, tmp_path):
    """A unit that meets another's folder is put off, not failed."""
    log = []

    def meets(tell):
        with owned(tmp_path / "attacks"):
            log.append("first")
        return [{"seed": 0}]

    plan = [(whole, Unit("table/first", {}, 1.0, meets)), (whole, unit("table/second", log))]
    with owned(tmp_path / "attacks"):
        worker = threading.Thread(target=runner.run_units, args=(plan,))
        worker.start()
        while log != ["table/second"]:
            time.sleep(0.01)
    worker.join()
    assert log == ["table/second", "first"]


def test_what_nobody_trains_is_said_not_waited_for(whole, tmp_path):
    def fails(tell):
        raise InputError("no such run")

    missing = tmp_path / "summary.json"
    with pytest.raises(InputError, match="no such run"):
        runner.run_units([(whole, Unit("table/lost", {}, 1.0, fails, (missing,)))])


def test_an_artefact_is_taken_from_the_device_that_has_done_most_of_it(whole, monkeypatch):
    """Units brought from elsewhere count, whole artefacts at a time."""

    def of(device):
        def run(tell):
            return [{"seed": 0, "by": device}]

        named = ("table2/a", "table2/b", "figure3/a", "figure6/a")
        return {name: Unit(name, {"n": (1, 2)}, 1.0, run) for name in named}

    def do(device, names):
        there = {"device": {"platform": device, "kind": device}, "versions": {"jax": "0"}}
        monkeypatch.setattr(study, "environment", lambda: there)
        for name in names:
            study.do_unit(whole, of(device)[name], lambda share: None)

    do("cpu", ["table2/a", "figure3/a"])
    monkeypatch.setattr(study.jax, "default_backend", lambda: "other")
    do("other", ["table2/a", "table2/b", "figure6/a"])
    monkeypatch.undo()
    found = study.read_units(whole, list(of("cpu").values()))
    by = {name: done["rows"][0]["by"] for name, done in found.items()}
    expected = {"table2/a": "other", "table2/b": "other", "figure3/a": "cpu", "figure6/a": "other"}
    assert by == expected
    changed = [one._replace(depends_on={"n": (1, 3)}) for one in of("cpu").values()]
    assert study.read_units(whole, changed) == {}
