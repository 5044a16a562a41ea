"""Use of content of a checkpoint, on disk."""

import pathlib
from collections.abc import Mapping

from uatmc_jax import store
from uatmc_jax.benchmark.files import result_file
from uatmc_jax.benchmark.targets import attacked_range
from uatmc_jax.environment import environment
from uatmc_jax.evaluation.content import SPLITS, ContentPlan, Hits, measure_hits, use_of_content
from uatmc_jax.hosts import by_writer, meet
from uatmc_jax.opened import OpenedRun
from uatmc_jax.seeds import generator
from uatmc_jax.settings import AttackRunSettings

_K = 20
_USERS, _RELEVANT, _FOUND = "users", "relevant_", "found_"


def content_of(run: OpenedRun, settings: AttackRunSettings) -> dict:
    """Use of content of one checkpoint, from its file if it is there.

    Args:
      run: the checkpoint.
      settings: of the evaluation: its targets' popularity, first seed, resamples and policy
        matter.

    Returns:
      `use_of_content`'s record, with "checkpoint", "dataset", "seed", the environment, and
      "file", beside which `read_hits` finds what it was counted from.
    """
    seed, data, model = settings.seeds[0], run.data, run.model
    direct = model.encode_rows is not None and settings.serving == "own_row"
    plan = ContentPlan(
        k=min(_K, data.n_items),
        attacked=attacked_range(settings.targets, data),
        cold_count=settings.cold_count,
        permutations=settings.permutations,
        bootstrap=settings.bootstrap,
        serving="full"
        if direct
        else settings.serving,  # the same where an edit moves its row alone
    )
    measured = plan._asdict()
    if plan.serving == "full" and model.relate is None:
        del measured["serving"]  # as it was measured before there were policies
    of = {"dataset": data.fingerprint, "checkpoint": run.where}
    file = result_file(run, "content", {"content": measured, "seed": seed} | of)
    arrays_file = file.with_suffix(".npz")
    missing = not (file.exists() and arrays_file.exists())
    meet()  # every process counts, one writes
    if missing:
        rng = generator(seed, "content")
        hits = measure_hits(run.model, run.params, data, run.z, plan, rng)
        arrays = {f"{_RELEVANT}{split}": hits.relevant[split] for split in SPLITS}
        arrays |= {f"{_FOUND}{split}": hits.found[split].astype("uint8") for split in SPLITS}
        found = {
            "checkpoint": run.where,
            "dataset": {"name": data.name, "fingerprint": data.fingerprint},
            "seed": seed,
        }
        found |= use_of_content(hits, data, plan) | environment()

        def write() -> None:
            store.write_arrays(arrays_file, arrays | {_USERS: hits.users})
            store.write_json(file, found)  # last: with it the measurement is done

        by_writer(write)
    return {"serving": "full"} | store.read_json(file, "valid", "test") | {"file": str(file)}


def read_hits(content: Mapping) -> Hits:
    """What a record of `content_of` was counted from.

    Args:
      content: the record.

    Raises:
      InputError: no such file, or one that cannot be read.
    """
    arrays = store.read_arrays(pathlib.Path(content["file"]).with_suffix(".npz"))
    relevant, found = (
        {split: arrays[f"{head}{split}"] for split in SPLITS} for head in (_RELEVANT, _FOUND)
    )
    return Hits(arrays[_USERS], relevant, {split: x.astype(int) for split, x in found.items()})
