"""What is encoded, a chunk at a time, so that an interruption loses one chunk."""

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from uatmc_jax.data.features import open_matrix
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.lines import Tally, finish, sync
from uatmc_jax.preparation.matrices import blocks, create, stand_in, writer
from uatmc_jax.store import read_json, write_json

# What of an encoder can be written down.
_SAID = ("name", "dim", "versions", "chunk", "recipe")


class Content(NamedTuple):
    """What is encoded.

    Attributes:
      n_rows: one per item.
      digest: of what there is and its order; other content is encoded anew.
      fetch: given rows and a tally, what to encode for each; None where there is nothing,
        which counts what cannot be read in the tally.
    """

    n_rows: int
    digest: str
    fetch: Callable[[range, Tally], list]


def encode_resumably(
    encoder: Encoder,
    content: Content,
    out: pathlib.Path,
    progress: pathlib.Path,
    tally: Tally,
    share: float,
) -> dict:
    """Encodes content into a `.npy`, and goes on where an earlier call was stopped.

    After each chunk the matrix is on the disk before `progress` says so. Chunks
    always begin at the same rows, so the result does not depend on stops.

    Args:
      encoder: of texts or images.
      content: to encode.
      out: the matrix; rows without content get the mean of the others.
      progress: JSON file of what is done.
      tally: of the source; an earlier call's replaces it.
      share: of malformed records allowed.

    Returns:
      Counts for the manifest.

    Raises:
      InputError: progress of another encoder, too much malformed, nothing to encode.
    """
    n_rows = content.n_rows
    of_content = {"rows": n_rows, "source": tally.sha256, "content": content.digest}
    identity = {**of_content, **{name: getattr(encoder, name) for name in _SAID}}
    begun = _resume(identity, out, progress, tally)
    if begun is None:
        create(out, n_rows, encoder.dim)
        begun = Begun(0, None, hashlib.sha256())
    done, without, digest = begun

    def note_progress(done: int) -> None:
        state = {
            "encoder": identity,
            "tally": dataclasses.asdict(tally),
            "digest": digest.hexdigest(),
        }
        write_json(progress, state | {"done": done, "without": without})

    shown = sys.stderr.isatty()
    with (
        writer(out) as write,
        tqdm(total=n_rows, initial=done, desc=encoder.name, disable=not shown) as bar,
    ):
        for start in range(done, n_rows, encoder.chunk):
            rows = range(start, min(start + encoder.chunk, n_rows))
            block = _encode_chunk(encoder, content.fetch(rows, tally))
            write(start, block)
            sync(out)
            digest.update(block.astype("<f4").tobytes())
            note_progress(rows.stop)
            bar.update(len(rows))
    if tally.records:
        finish(tally, share)
    if without is None:
        empty = [start + np.flatnonzero(np.isnan(x[:, 0])) for start, x in blocks(open_matrix(out))]
        without = np.concatenate(empty).tolist()
        note_progress(n_rows)  # for a call that finds the gaps filled
    present = np.ones(n_rows, bool)
    present[without] = False
    return stand_in(out, present, f"{tally.file}: nothing to encode for any item that is left")


def forget(progress: pathlib.Path, *more: pathlib.Path) -> None:
    """Deletes what is noted of an encoding, and its matrix if given, if there are any."""
    for path in (progress, *more):
        path.unlink(missing_ok=True)


class Begun(NamedTuple):
    """What an earlier call has left.

    Attributes:
      done: rows that are encoded.
      without: rows without content, once all are done.
      digest: SHA-256 of the rows as they were encoded.
    """

    done: int
    without: list[int] | None
    digest: "hashlib._Hash"


def _resume(
    identity: dict, out: pathlib.Path, progress: pathlib.Path, tally: Tally
) -> Begun | None:
    """What is done, if anything; puts the earlier call's counts into the tally."""
    if not (progress.is_file() and out.is_file()):
        return None
    remedy = f"Delete {progress} to encode anew"
    needed = ("encoder", "tally", "done", "without", "digest")
    state = read_json(progress, *needed, remedy=remedy)
    changed = {name for name in identity if identity[name] != state["encoder"].get(name)}
    if "content" in changed and changed <= {"content", "rows", "source"}:
        return None  # other items: it is these that are to be encoded
    if changed:
        raise InputError(
            f"{progress.parent}: the encoding was begun with another model, other versions of its "
            f"libraries or other sources (changed: {', '.join(sorted(changed))}). Delete "
            f"{progress.name} in it to encode anew."
        )
    for name, value in state["tally"].items():
        setattr(tally, name, value)
    digest = _digest(out, state["done"], state["without"])
    if digest.hexdigest() != state["digest"]:
        raise InputError(f"{out}: was changed or damaged since it was encoded. {remedy}.")
    return Begun(state["done"], state["without"], digest)


def _digest(out: pathlib.Path, done: int, without: list[int] | None) -> "hashlib._Hash":
    """Of the first rows of a matrix, with NaN again where the gaps are filled."""
    digest, left = hashlib.sha256(), np.array(without or (), np.int64)
    for start, rows in blocks(open_matrix(out)[:done]):
        block = np.array(rows)
        block[left[(left >= start) & (left < start + len(block))] - start] = np.nan
        digest.update(block.tobytes())
    return digest


def _encode_chunk(encoder: Encoder, things: list) -> np.ndarray:
    """(len(things), dim) float32, NaN where a thing is None."""
    block = np.full((len(things), encoder.dim), np.nan, np.float32)
    there = [position for position, thing in enumerate(things) if thing is not None]
    if there:
        try:
            vectors = np.asarray(encoder.encode([things[position] for position in there]))
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"encoder {encoder.name}: failed ({reason}). If memory was short, lower "
                "--batch-size; else use another model."
            ) from None
        if vectors.shape != (len(there), encoder.dim):
            raise InputError(
                f"encoder {encoder.name}: gave shape {vectors.shape} for {len(there)} items, "
                f"wanted ({len(there)}, {encoder.dim}). Use another model."
            )
        block[there] = vectors
        if not np.isfinite(block[there]).all():
            raise InputError(f"encoder {encoder.name}: gave NaN or inf. Use another model.")
    return block
