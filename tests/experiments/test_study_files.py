"""A study's files: completed from two places without a row lost, and safe at every kill."""

import pathlib
from typing import NamedTuple

import pytest

from configs import test as test_config
from experiments import study, study_files
from experiments.paper.trainings import paper_study
from tests.experiments.test_reproduce import small_plan
from uatmc_jax import store
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import from_config

CPU, GPU = ("0.10.2", "cpu", "cpu"), ("0.11.2", "gpu", "H100")


class Place(NamedTuple):
    """What one machine has measured, in an OUT of its own."""

    study: study.Study
    units: list[study.Unit]


def made(name, software, mark):
    jax_version, platform, kind = software
    return {
        "study": "test", "artefact": study.artefact_of(name), "unit": name, "mark": mark,
        "dataset": {"name": "synthetic", "fingerprint": DATA.fingerprint},
        "versions": {"jax": jax_version}, "code": {"commit": "", "sources": "0"},
        "device": {"platform": platform, "kind": kind},
    }  # fmt: skip


SETTINGS = from_config(test_config.get_config())
DATA = open_dataset(SETTINGS.data)
NAMES = ("training/a", "training/b", "one/x", "one/y", "one/z", "two/x")


def place(out, software, mark, names, names_there=NAMES, version=1, **plan):
    """A machine that has measured some units of a plan."""
    whole = paper_study("test", SETTINGS, small_plan(**plan), out, DATA)
    units = [
        study.Unit(name, {"version": version, "of": name}, 10.0, lambda tell: [])
        for name in names_there
    ]
    (whole.folder / "units").mkdir(parents=True)
    for unit in units:
        if unit.name in names:
            done = {"unit": unit.name, "depends_on": unit.depends_on, "seconds": 1.0}
            done["rows"] = [made(unit.name, software, mark)]
            store.write_json(study.unit_file(whole, unit), done)
    return Place(whole, units)


def write(of: Place, results):
    return study_files.write_study(of.study, of.units, results)


def marks(results):
    (found,) = study_files.read_results(results)
    known = {row["unit"]: row["mark"] for row in found.rows}
    seconds = {one["unit"]: one["seconds"] for one in found.plan["units"]}
    assert {name for name, one in seconds.items() if one is not None} == set(known)
    return known


@pytest.fixture(autouse=True)
def drawn_nowhere(monkeypatch):
    monkeypatch.setattr(study_files, "draw", lambda *_: [])


def test_what_is_there_is_completed_and_never_replaced_by_less(tmp_path):
    results = tmp_path / "results"
    first = place(tmp_path / "a", CPU, "a", ("training/a", "one/x", "one/y"))
    assert write(first, results) == []
    # The same device: what is missing is added, what is there stays with what rests on it.
    second = place(tmp_path / "b", CPU, "b", ("training/a", "training/b", "one/y", "one/z"))
    assert write(second, results) == []
    joined = {"training/a": "a", "training/b": "b", "one/x": "a", "one/y": "a", "one/z": "b"}
    assert marks(results) == joined
    # Another device with less of an artefact: said and left out; another artefact is added.
    third = place(tmp_path / "c", GPU, "c", ("training/a", "one/x", "two/x"))
    (note,) = write(third, results)
    assert note.endswith("left out: one/x. Name another --results for them.")
    assert marks(results) == joined | {"two/x": "c"}
    # Another device with all of it takes its place; trainings stay where a measurement does.
    fourth = place(tmp_path / "d", GPU, "d", ("training/a", "one/x", "one/y", "one/z"))
    assert write(fourth, results) == []
    replaced = {"one/x": "d", "one/y": "d", "one/z": "d", "two/x": "c"}
    assert marks(results) == {"training/a": "a", "training/b": "b"} | replaced
    fifth = place(tmp_path / "e", GPU, "e", NAMES)
    assert write(fifth, results) == [] and set(marks(results).values()) == {"e"}


def test_nothing_but_the_plan_is_changed_by_an_out_without_anything(tmp_path):
    results = tmp_path / "results"
    write(place(tmp_path / "a", CPU, "a", NAMES), results)
    before = marks(results)
    for out, plan in (("b", {}), ("c", {"targets": 2})):
        assert write(place(tmp_path / out, CPU, out, (), **plan), results) == []
        assert marks(results) == before


def test_units_that_are_defined_anew_or_named_otherwise(tmp_path):
    results, few = tmp_path / "results", ("training/a+1", *NAMES[2:])
    write(place(tmp_path / "a", CPU, "a", few, few), results)
    # The plan of all artefacts trains more together: that of a part keeps its rows.
    assert write(place(tmp_path / "b", CPU, "b", ("training/a",)), results) == []
    assert marks(results) == dict.fromkeys(few, "a") | {"training/a": "b"}
    (note,) = write(place(tmp_path / "c", CPU, "c", ("two/x",), version=2), results)
    assert "defined anew since, and left out: training/a, one/x, one/y, one/z." in note
    assert marks(results) == {"training/a+1": "a", "two/x": "c"}


def test_units_of_other_names_stay_in_their_order(tmp_path):
    """So that results completed on any machine are the same bytes."""
    results, few = tmp_path / "results", tuple(f"training/{n}" for n in "qwertyuiop")
    write(place(tmp_path / "a", CPU, "a", few, few), results)
    write(place(tmp_path / "b", CPU, "b", ("one/x",)), results)
    (found,) = study_files.read_results(results)
    assert [one["unit"] for one in found.plan["units"]] == [*NAMES, *few]
    assert [row["unit"] for row in found.rows] == ["one/x", *few]


def test_another_plans_rows_do_not_pass_for_this_ones_after_a_kill(tmp_path, monkeypatch):
    """Killed at each of its writes: no row of before is ever read under the new plan."""
    new = place(tmp_path / "new", CPU, "new", NAMES, targets=2)
    write_text, writes = store.write_text, 0

    def killed_at(count):
        left = [count]

        def write_or_die(path, text):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write_text(path, text)

        return write_or_die

    for writes in range(20):
        results = tmp_path / f"results{writes}"
        write(place(tmp_path / f"old{writes}", CPU, "old", NAMES), results)
        with monkeypatch.context() as patched:
            patched.setattr(store, "write_text", killed_at(writes))
            try:
                write(new, results)
                break
            except KeyboardInterrupt:
                pass
        try:
            found = study_files.read_results(results)
        except InputError as error:
            assert "plan.json" in str(error)
            continue
        assert {row["mark"] for one in found for row in one.rows} <= {"new"}
    assert writes == 5 and set(marks(results).values()) == {"new"}


def test_a_kill_while_rows_are_added_loses_none(tmp_path, monkeypatch):
    results = tmp_path / "results"
    write(place(tmp_path / "a", CPU, "a", ("training/a", "one/x")), results)
    more = place(tmp_path / "b", CPU, "b", ("one/y", "two/x"))
    write_text = store.write_text

    def no_plan(path: pathlib.Path, text):
        if path.name == "plan.json":
            raise KeyboardInterrupt
        write_text(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_text", no_plan)
        with pytest.raises(KeyboardInterrupt):
            write(more, results)
    assert write(more, results) == []
    assert marks(results) == {"training/a": "a", "one/x": "a", "one/y": "b", "two/x": "b"}


def test_trainings_that_nothing_asks_for_are_not_left_to_run(tmp_path):
    """All measurements are there, of the same trainings in units of other names."""
    results, few = tmp_path / "results", ("training/a+1", *NAMES[2:])

    def left():
        (found,) = study_files.read_results(results)
        return [one["unit"] for one in found.plan["units"] if one["seconds"] is None]

    write(place(tmp_path / "a", CPU, "a", few[:-1], few), results)
    write(place(tmp_path / "b", CPU, "b", ()), results)  # the plan of all artefacts
    assert left() == ["training/a", "training/b", "two/x"]
    write(place(tmp_path / "c", CPU, "c", ("two/x",)), results)
    assert left() == []
