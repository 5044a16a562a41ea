"""What a size needs of devices, by the compiler's word: nothing is run, and no data are needed.

    python -m experiments.capacity --users 10_000_000 --items 1_000_000 \
        --interactions 1_000_000_000 --devices 8

Compiles both stages' steps, the ranking and the attack of VBPR at the published sizes for so
many simulated CPU devices, from shapes alone, and prints as JSON what XLA says each device holds
and what they send each other. Times are not measured: they follow from XLA's count of operations,
from the bytes of the rows and scores that are read and written, and from what is assumed of the
device (`DEVICES`), of which half is taken to be reached.
"""

import json
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from configs import base
from uatmc_jax.attacks import Victim, pgd
from uatmc_jax.attacks.outcome import attack_batch
from uatmc_jax.attacks.record import in_one_program
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.cli import start
from uatmc_jax.data import CSR, Graph, Sizes
from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.data.graph import Side
from uatmc_jax.defenses import Frozen, Trained, coefficients, static_defense
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import RankingPlan
from uatmc_jax.models import Model, build_model
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.placement import (
    Layout,
    OwnedPairs,
    compiled_measure,
    lay_out,
    make_placement,
    padded,
    shardings,
)
from uatmc_jax.placement.compiled import collectives, memory, sent
from uatmc_jax.placement.mesh import AXIS
from uatmc_jax.placement.pairs import where_owned
from uatmc_jax.seeds import starts_key
from uatmc_jax.settings import MeshSettings, Settings, from_config
from uatmc_jax.training.epoch import TrainState, init_state, steps_per_epoch
from uatmc_jax.training.epochs import (
    adversarial_epoch,
    compiled,
    pretrain_epoch,
    spread_rows,
    updates_of,
)
from uatmc_jax.training.objectives import PretrainCoefficients

_USERS = flags.DEFINE_integer("users", 10_000_000, "|U|.", lower_bound=1)
_ITEMS = flags.DEFINE_integer("items", 1_000_000, "|I|.", lower_bound=1)
_INTERACTIONS = flags.DEFINE_integer("interactions", 1_000_000_000, "Of training.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", 8, "How many.", lower_bound=2)
_RAW = flags.DEFINE_list("raw_dims", ["4096", "384"], "Widths of the raw features.")
_FEATURES = flags.DEFINE_enum(
    "features", "float32", ["float32", "float16"], "config.mesh.features."
)
_ROWS = flags.DEFINE_string("rows", "deferred", "optimizer.rows of both stages.")
_CHUNK = flags.DEFINE_integer("chunk_steps", 1000, "config.checkpoint.chunk_steps.", lower_bound=1)
_TARGETS = flags.DEFINE_integer("targets", 8, "Attacked at a time by all devices.", lower_bound=1)
_DEVICE = flags.DEFINE_string("device", "h100", "Whose speed is assumed: of DEVICES.")

_K, _D = 50, 128  # of the attack; width of the scores' embeddings, 2d


class Speed(NamedTuple):
    """What is assumed of a device: operations and bytes a second, seconds, bytes.

    Attributes:
      flops: of float32 products.
      memory: bytes a second of its own memory.
      link: bytes a second to the others, one way.
      latency: seconds of one collective beside its bytes.
      size: bytes of its memory.
    """

    flops: float
    memory: float
    link: float
    latency: float
    size: float


DEVICES = {
    "h100": Speed(67e12, 3.35e12, 450e9, 1e-5, 80e9),
    "h200": Speed(67e12, 4.8e12, 450e9, 1e-5, 141e9),
    "a100": Speed(19.5e12, 2.0e12, 300e9, 1e-5, 80e9),
}
_REACHED = 0.5


class Case(NamedTuple):
    """What is compiled: a model of a size on a mesh, its data as shapes."""

    settings: Settings
    model: Model
    layout: Layout
    data: DeviceData
    sizes: Sizes
    n_pairs: int


def make_case(sizes: Sizes, n_pairs: int, mesh: MeshSettings, rows: str) -> Case:
    """VBPR at the published sizes, on simulated devices.

    Args:
      sizes: |U|, |I| and the raw features' widths.
      n_pairs: training interactions, spread evenly over the users' parts.
      mesh: how many, which JAX must see, and the type of the raw features.
      rows: of both stages' optimisers.
    """
    config = base.get_config()
    for stage in (config.pretrain, config.adversarial):
        stage.optimizer.update(rows=rows, shuffle="keyed")
    settings = from_config(config)
    multiple = math.lcm(mesh.row_multiple, mesh.devices)
    placement = make_placement(mesh.devices, multiple, mesh.features)
    model = build_model(settings.model, sizes)
    if placement is None:
        raise InputError("--devices 1: nothing is spread. Give 2 or more.")

    def shapes_of(sizes: Sizes) -> PyTree:
        made = build_model(settings.model, sizes)
        return jax.eval_shape(made.init, jax.random.key(0))

    layout = lay_out(placement, shapes_of, sizes)
    users_a_part = padded(placement, sizes.n_users) // multiple
    mean = n_pairs / sizes.n_users
    slack = math.ceil(1.2 * mean * min(settings.eval.block_users, users_a_part))
    length = math.ceil(n_pairs / multiple) + slack
    pairs = OwnedPairs(
        users=_int(multiple, length),
        items=_int(multiple, length),
        indptr=_int(multiple, users_a_part + 1),
        limbs=_int(2, multiple + 1),
        n_pairs=n_pairs,
        n_items=sizes.n_items,
        search_steps=int(20 * mean).bit_length(),
        slack=slack,
    )
    specs = PartitionSpec(AXIS), PartitionSpec()
    by_block, whole = (NamedSharding(placement.mesh, spec) for spec in specs)
    graph = Graph(*(Side(_int(1, 0), _int(0), _float(n)) for n in sizes[:2]))
    shapes = ((sizes.n_items, width) for width in sizes.raw_dims.values())
    features = tuple(jax.ShapeDtypeStruct(shape, mesh.features) for shape in shapes)
    data = DeviceData(
        pairs=_lying(pairs, where_owned(pairs, by_block, whole)),
        seen=None,
        graph=_whole(layout, graph),
        features=_whole(layout, features),
    )
    return Case(settings, model, layout, data, sizes, n_pairs)


def compile_stage(case: Case, stage: str, count: int) -> jax.stages.Compiled:
    """A chunk of so many steps of "pretrain" or "adversarial"."""
    chosen, layout, model = getattr(case.settings, stage), case.layout, case.model
    updates = updates_of(chosen, case.data, layout)
    params = jax.eval_shape(model.init, jax.random.key(0))
    fixed: tuple
    if stage == "pretrain":
        optimizer, epoch = pretrain_epoch(model, chosen.nce_items, chosen.mu_warmup_epochs, updates)
        fixed, select = (case.data, PretrainCoefficients(_float(), _float())), lambda p: p
    else:
        defense = static_defense(chosen, tuple(case.sizes.raw_dims))
        optimizer, epoch = adversarial_epoch(model, defense, chosen.ramp_epochs, updates)
        z = tuple(_float(case.sizes.n_items, case.settings.model.dim) for _ in case.sizes.raw_dims)
        frozen = Frozen(z=_whole(layout, z), graph=case.data.graph)
        fixed, select = (frozen, coefficients(chosen)), lambda p: Trained(p.encoder)

    def first(params: PyTree) -> TrainState:
        return init_state(select(params), optimizer, jax.random.key(0))

    state = jax.eval_shape(first, params)
    rows = spread_rows(layout, optimizer, state, select)
    state = _lying(_filled(layout, rows, state), shardings(layout.placement, rows))
    run = compiled(epoch, layout, rows)
    return run.lower(state, fixed, case.data, first=0, count=count).compile()  # type: ignore[attr-defined]


def compile_ranking(case: Case) -> jax.stages.Compiled:
    """Metrics of all users, one of whose items each is held out."""
    layout, n_users = case.layout, case.sizes.n_users
    params = jax.eval_shape(case.model.init, jax.random.key(0))
    params = _filled(layout, layout.rows, params)
    params = _lying(params, shardings(layout.placement, layout.rows))
    z = tuple(_float(case.sizes.n_items, case.settings.model.dim) for _ in case.sizes.raw_dims)
    held_out = _whole(layout, CSR(_int(n_users + 1), _int(n_users), 4))
    measured = compiled_measure(case.model, layout, case.settings.eval.ks)
    return measured.lower(params, _whole(layout, z), (held_out,), case.data).compile()


def compile_attack(case: Case, targets: int, by_user: bool) -> jax.stages.Compiled:
    """PGD of all users on so many targets, which the devices share, or the users of which."""
    layout, sizes, dim = case.layout, case.sizes, case.settings.model.dim
    params = jax.eval_shape(case.model.init, jax.random.key(0))
    n_users, by_row = padded(layout.placement, sizes.n_users), PartitionSpec(AXIS)
    on_users = NamedSharding(layout.placement.mesh, by_row if by_user else PartitionSpec())
    on_targets = NamedSharding(layout.placement.mesh, PartitionSpec() if by_user else by_row)
    whole = {
        "encoder": params.encoder,
        "projectors": params.projectors,
        "features": case.data.features,
        "z": tuple(_float(sizes.n_items, dim) for _ in sizes.raw_dims),
        "graph": case.data.graph,
        "item": _float(sizes.n_items, _D),
        "plan": RankingPlan(_int(n_users + 1), _int(0), _int(0), *sizes[:2], 2048, 8192, 0),
    }
    of_users = {
        "users": _int(n_users),
        "user": _float(n_users, _D),
        "best_scores": _float(n_users, _K + 1),
        "best_items": _int(n_users, _K + 1),
    }
    victim = Victim(
        model=case.model,
        modalities=tuple(sizes.raw_dims),
        masked=None,
        trace=None,
        **_whole(layout, whole),
        **jax.tree.map(lambda x: x.update(sharding=on_users), of_users),
    )
    aims = Target(_int(targets).update(sharding=on_targets))
    attack = in_one_program(pgd(k=_K), utilities=False)
    given = attack, victim, DIRECT, ((_K,), False), aims, None, starts_key(0)
    return attack_batch.lower(*given).compile()


def _int(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _lying(tree: PyTree, where: PyTree) -> PyTree:
    return jax.tree.map(lambda x, at: x.update(sharding=at), tree, where)


def _whole(layout: Layout, tree: PyTree) -> PyTree:
    at = NamedSharding(layout.placement.mesh, PartitionSpec())
    return jax.tree.map(lambda x: x.update(sharding=at), tree)


def _filled(layout: Layout, rows: PyTree, tree: PyTree) -> PyTree:
    def fill(n: int, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        shape = (padded(layout.placement, n), *x.shape[1:]) if n else x.shape
        return x.update(shape=shape)

    return jax.tree.map(fill, rows, tree)


def _needs(program: jax.stages.Compiled, what: str) -> dict[str, Any]:
    """What a program needs on each device, and what it sends; `what` a loop's iteration is."""
    held, between = memory(program), collectives(program)
    inside = [x for x in between if x.in_loop]
    return {
        "gb_given": round(held.given / 1e9, 3),
        "gb_results": round(held.results / 1e9, 3),
        "gb_between": round(held.between / 1e9, 3),
        f"collectives_a_{what}": len(inside),
        f"bytes_sent_a_{what}": sent(inside),
        "collectives_once": len(between) - len(inside),
        "bytes_sent_once": sent(between, in_loop=False),
    }


def seconds_of(case: Case, speed: Speed, flops: float, needs: dict) -> dict[str, float]:
    """What a step of stage 2 and an epoch of it take at least, as far as the device goes.

    A step reads and writes its rows of the tables and of two moments, and multiplies; at a
    chunk's end "deferred" reads and writes all of them once, and "dense" does in every step.

    Args:
      case: what was compiled.
      speed: of a device.
      flops: of a step, on each device.
      needs: of the step's program.
    """
    chosen, dim = case.settings.adversarial, case.settings.model.dim
    tables = 4 * 6 * (2 * dim * case.sizes.n_users + dim * case.sizes.n_items)
    all_rows = tables / case.layout.placement.mesh.size / speed.memory / _REACHED
    some_rows = 4 * 6 * (2 * dim + 2 * dim) * chosen.batch_size / speed.memory / _REACHED
    moved = needs["bytes_sent_a_step"] / speed.link / _REACHED
    waits = needs["collectives_a_step"] * speed.latency
    dense = chosen.optimizer.rows == "dense"
    computes = max(flops / speed.flops / _REACHED, all_rows if dense else some_rows)
    step, n_steps = computes + moved + waits, steps_per_epoch(case.n_pairs, chosen.batch_size)
    ends = math.ceil(n_steps / _CHUNK.value) if chosen.optimizer.rows == "deferred" else 0
    return {
        "ms_a_step": round(1e3 * step, 3),
        "steps_an_epoch": n_steps,
        "seconds_an_epoch": round(n_steps * step + ends * all_rows, 1),
    }


def ranking_seconds(case: Case, speed: Speed) -> float:
    """All users' scores multiplied, written and read again, each device its own users'."""
    scores = case.sizes.n_users * case.sizes.n_items / case.layout.placement.mesh.size
    return max(2 * _D * scores / speed.flops, 8 * scores / speed.memory) / _REACHED


def main(argv: list[str]) -> None:
    """Flags in, JSON out."""
    del argv
    if _DEVICE.value not in DEVICES:
        raise InputError(f"--device {_DEVICE.value}: wanted one of {', '.join(DEVICES)}.")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", _DEVICES.value)
    raw = {f"m{n}": int(width) for n, width in enumerate(_RAW.value)}
    sizes, speed = Sizes(_USERS.value, _ITEMS.value, raw), DEVICES[_DEVICE.value]
    mesh = MeshSettings(devices=_DEVICES.value, features=_FEATURES.value)
    case = make_case(sizes, _INTERACTIONS.value, mesh, _ROWS.value)
    stages = "pretrain", "adversarial"
    steps = {stage: compile_stage(case, stage, _CHUNK.value) for stage in stages}
    needs = {stage: _needs(program, "step") for stage, program in steps.items()}
    flops = steps["adversarial"].cost_analysis()["flops"]
    if _ROWS.value == "deferred":  # whose end of a chunk is not a step's
        plain = make_case(sizes, _INTERACTIONS.value, mesh, "lazy")
        flops = compile_stage(plain, "adversarial", _CHUNK.value).cost_analysis()["flops"]
    needs["ranking"] = _needs(compile_ranking(case), "block")
    needs["attack by targets"] = _needs(compile_attack(case, _TARGETS.value, False), "step")
    needs["attack by users"] = _needs(compile_attack(case, 1, True), "step")
    features = sum(x.size * x.dtype.itemsize for x in case.data.features)
    told = {
        "devices": _DEVICES.value,
        "gb_of_features_on_each": round(features / 1e9, 3),
        "compiled": needs,
        "assumed": {_DEVICE.value: speed._asdict(), "share_reached": _REACHED},
        "stage 2": seconds_of(case, speed, flops, needs["adversarial"]),
        "ranking_seconds": round(ranking_seconds(case, speed), 1),
        "jax": jax.__version__,
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    start(main, computes=False)
