"""What training tells of its epochs: JSON lines, TensorBoard, the terminal."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqdm import tqdm

from uatmc_jax import store

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

METRICS_FILE = "metrics.jsonl"


def append_record(workdir: pathlib.Path, record: dict) -> None:
    """Appends one epoch's object to metrics.jsonl and sees it to the disk."""
    store.append_rows(workdir / METRICS_FILE, [record])


def read_records(workdir: pathlib.Path) -> list[dict]:
    """The objects of metrics.jsonl; a last line cut off by a kill is left out."""
    return store.read_rows(workdir / METRICS_FILE)


def keep_records(workdir: pathlib.Path, epochs: dict[str, int]) -> None:
    """Drops what a resumed run will write again: records past {stage: epoch}."""
    kept = [r for r in read_records(workdir) if r["epoch"] <= epochs.get(r["stage"], 0)]
    store.write_rows(workdir / METRICS_FILE, kept)


@contextlib.contextmanager
def tensorboard(workdir: pathlib.Path, stage: str, done: int) -> Iterator["EventsWriter"]:
    """A writer for one stage; events past epoch `done` of an earlier attempt are hidden."""
    # Seconds to import, and most commands write none. Its usual writer has a thread, in which a
    # full disk would be nobody's error.
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder = workdir / "tensorboard" / stage
    folder.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(folder / "events"))
    start = SessionLog(status=SessionLog.START)
    writer.write_event(Event(step=done + 1, wall_time=time.time(), session_log=start))
    try:
        yield writer
    finally:
        writer.close()


def add_scalars(writer: "EventsWriter", record: dict) -> None:
    """One epoch's record as TensorBoard scalars."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    scalars = {"seconds": record["seconds"]}
    for group in ("losses", "valid"):
        for name, value in record.get(group, {}).items():
            scalars[f"{group}/{name.replace('@', '_at_')}"] = value  # "@" is not allowed in a tag
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    event = Event(step=record["epoch"], wall_time=time.time(), summary=Summary(value=values))
    writer.write_event(event)
    writer.flush()


@contextlib.contextmanager
def progress(title: str, total: int, done: int, shown: bool = True) -> Iterator["Progress"]:
    """A bar on a terminal, plain lines otherwise."""
    bar = tqdm(
        total=total,
        initial=done,
        desc=title,
        unit="epoch",
        disable=not (shown and sys.stderr.isatty()),
        dynamic_ncols=True,
    )
    with bar:
        yield Progress(title, total, bar)


class Progress:
    """Shows a stage's epochs; holds the bar."""

    def __init__(self, title: str, total: int, bar: tqdm):
        self._title, self._total, self._bar = title, total, bar

    def show(self, record: dict) -> None:
        """One finished epoch."""
        shown = {"loss": f"{record['losses']['loss']:.4f}"}
        if "valid" in record:
            shown["recall@20"] = f"{record['valid']['recall@20']:.4f}"
            shown["best"] = f"{record['best_recall@20']:.4f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()
        if self._bar.disable:
            values = "  ".join(f"{name} {value}" for name, value in shown.items())
            line = f"{self._title} {record['epoch']}/{self._total}  {values}"
            print(f"{line}  {record['seconds']:.1f} s", flush=True)
