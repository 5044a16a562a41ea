import json
import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uatmc_jax import logs, store
from uatmc_jax.errors import InputError
from uatmc_jax.report import format_summary


def test_json_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"a": object()})
    assert json.loads(path.read_text())["a"] == 1 and store.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


DAMAGED = {
    "empty": ("", "not JSON"),
    "no text": (b"\xff\x00".decode("latin-1"), "not JSON"),
    "cut": ('{"a": 12', "not JSON"),
    "another kind": ("[1]", "no JSON object"),
    "bare": ("{}", "has no 'a'"),
    "too deep": ("[" * 100_000, "not JSON"),
    "a number of thousands of digits": ('{"a": ' + "1" * 5000 + "}", "not JSON"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_not_whole_is_refused_with_its_name_and_the_remedy(name, tmp_path):
    text, message = DAMAGED[name]
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"a\.json: .*{message}.*Do this\.$"):
        store.read_json(path, "a", remedy="Do this")
    with pytest.raises(InputError, match=r"b\.json: no such file\. Do this\."):
        store.read_json(tmp_path / "b.json", remedy="Do this")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_flipped_or_missing_byte_goes_unseen(data):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.json"
        value = {"a": [1.5, 2, "x"], "b": {"7": None, "10": True}, "c": 123456}
        store.write_json(path, value | {"d": {7: 1, 10: 2}})  # keys that JSON makes text
        whole = path.read_bytes()
        assert store.read_json(path)["d"] == {"7": 1, "10": 2}
        place = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
            damaged = whole[:place] + bytes([other]) + whole[place + 1 :]
        else:
            damaged = whole[:place]
        path.write_bytes(damaged)
        try:
            found = store.read_json(path, "a", "b")
        except InputError:
            return
        # Only white space, the way a number is written, or the seal's own name is another.
        expected = store.unseal(json.loads(whole), "", "")
        assert {name: found.get(name) for name in expected} == expected


def test_files_of_before_there_were_seals_are_read(tmp_path):
    path = tmp_path / "old.json"
    path.write_text('{"a": 1}')
    assert store.read_json(path, "a") == {"a": 1}


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    for epoch in (1, 2):
        logs.append_record(tmp_path, {"stage": "pretrain", "epoch": epoch})
    with open(tmp_path / logs.METRICS_FILE, "a") as file:
        file.write('{"stage": "pretr')
    assert [r["epoch"] for r in logs.read_records(tmp_path)] == [1, 2]
    logs.keep_records(tmp_path, {"pretrain": 1})
    logs.append_record(tmp_path, {"stage": "adversarial", "epoch": 1})
    assert [(r["stage"], r["epoch"]) for r in logs.read_records(tmp_path)] == [
        ("pretrain", 1),
        ("adversarial", 1),
    ]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_journal_goes_unseen(data):
    with tempfile.TemporaryDirectory() as folder:
        path, rows = pathlib.Path(folder) / "a.jsonl", [{"a": 1.25, "b": "é"}, {"a": 2}]
        store.append_rows(path, rows)
        whole = path.read_bytes()
        assert store.read_rows(path) == rows
        place = data.draw(st.integers(0, len(whole) - 1))
        other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
        path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        try:
            found = store.read_rows(path)
        except InputError as error:
            assert f"{path}, line " in str(error)
        else:  # the seal's own name may be another, and the last line may have lost its end
            assert [{k: row[k] for k in row.keys() & {"a", "b"}} for row in found] == rows[
                : len(found)
            ]


def test_lines_of_before_there_were_seals_are_read(tmp_path):
    (tmp_path / "old.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    assert store.read_rows(tmp_path / "old.jsonl") == [{"a": 1}, {"a": 2}]


def test_tensorboard_reads_the_scalars(tmp_path):
    from tensorboardX.proto import event_pb2

    with logs.tensorboard(tmp_path, "pretrain", 0) as writer:
        logs.add_scalars(
            writer,
            {"epoch": 3, "seconds": 1.0, "losses": {"bpr": 0.5}, "valid": {"recall@20": 0.1}},
        )
    (file,) = (tmp_path / "tensorboard" / "pretrain").iterdir()
    data, tags = file.read_bytes(), {}
    while data:
        size = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + size])
        tags |= {v.tag: (event.step, round(v.simple_value, 6)) for v in event.summary.value}
        data = data[12 + size + 4 :]
    expected = {"losses/bpr": (3, 0.5), "valid/recall_at_20": (3, 0.1), "seconds": (3, 1.0)}
    assert {tag: value for tag, value in tags.items() if tag in expected} == expected


def test_summary_table_shows_every_stage():
    metrics = {m: 0.5 for m in ("recall@10", "recall@20", "ndcg@10", "ndcg@20")}
    stages = {
        "pretrain": {"init_from": "runs/a", "test": metrics},
        "adversarial": {
            "best_epoch": 2, "epochs": 7, "test": metrics, "at_last_epoch": {"test": metrics},
        },
    }  # fmt: skip
    text = format_summary(
        {
            "model": "vbpr", "defense": "uat", "seed": 1, "wall_seconds": 2.0,
            "peak_memory_mib": 5, "device": {"platform": "cpu"},
            "dataset": {"name": "d", "fingerprint": "f"},
            "popularity": {"test": metrics}, "stages": stages,
        }
    )  # fmt: skip
    for part in ("popularity", "initial", "best, epoch 2", "last, epoch 7", "adversarial (uat)"):
        assert part in text
