import pytest

from uatmc_jax import logs, store
from uatmc_jax.report import format_summary


def test_json_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'


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
