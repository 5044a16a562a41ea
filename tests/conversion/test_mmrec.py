"""PyTorch checkpoints: the same scores, and a clear refusal of all that is not one."""

import dataclasses
import json
import os
import pathlib
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from configs import base
from uatmc_jax import checkpoint, store
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.conversion import import_mmrec, read_state
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import device_data
from uatmc_jax.opened import open_runs
from uatmc_jax.settings import AttackRunSettings, from_config, from_values, load_config, to_dict
from uatmc_jax.training.run import first_params

torch = pytest.importorskip("torch", reason="the extra 'torch'")
from tests.conversion import torch_models as models  # noqa: E402

pytestmark = pytest.mark.extras

DIM, HIDDEN = 6, {"visual": (9, 7), "textual": (5,)}
VISUAL, TEXTUAL = "visual:image_feat.npy", "textual:text_feat.npy"
KINDS = {
    "vbpr": lambda data: models.VBPR(data, DIM, HIDDEN),
    "vbpr without hidden layers": lambda data: models.VBPR(
        data, DIM, {"visual": (), "textual": ()}
    ),
    "mmgcn": lambda data: models.MMGCN(data, DIM, HIDDEN, latent=10),
    "mmgcn, add": lambda data: models.MMGCN(data, DIM, HIDDEN, latent=10, concat=False),
    "mmgcn, two layers of one width": lambda data: models.MMGCN(data, DIM, HIDDEN, n_layers=2),
    "plain vbpr": lambda data: models.PlainVBPR(data, DIM),
}
# Graph models by the config they are imported with, which tells their layers and lists.
GRAPHS = {
    "lightgcn": (models.LightGCN, base.use_lightgcn),
    "freedom": (models.FREEDOM, base.use_freedom),
    "bm3": (models.BM3, base.use_bm3),
    "mgcn": (models.MGCN, base.use_mgcn),
    "lattice": (models.LATTICE, base.use_lattice),
    "lgmrec": (models.LGMRec, base.use_lgmrec),
    "dragon": (models.DRAGON, base.use_dragon),
}


def save(model, file, **beside):
    torch.save({"state_dict": model.state_dict(), **beside} if beside else model.state_dict(), file)
    return file


def scores_of_run(workdir, dataset):
    model, params, _, _ = checkpoint.restore(workdir, "pretrain", "best", dataset)
    z = model.project(params.projectors, tuple(map(jnp.asarray, dataset.features)))
    graph = device_data(model, dataset).graph
    user, item = model.encode(params.encoder, z, graph)
    return np.asarray(user @ item.T)


def assert_same_scores(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape and np.ptp(expected) > 0.1
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


WRAPPED = {
    "data parallel": lambda state: {f"module.{name}": x for name, x in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": x for name, x in state.items()},
    "both": lambda state: {f"module._orig_mod.{name}": x for name, x in state.items()},
    "a name of one's own": lambda state: {f"student.vbpr.{name}": x for name, x in state.items()},
    "an entry of one's own": lambda state: {"best_params": state, "optimizer": {"lr": 0.1}},
    "Lightning": lambda state: {
        "state_dict": {f"model.{name}": x for name, x in state.items()},
        "epoch": 4,
    },
    "another entry": lambda state: {"model_state_dict": state, "epoch": 4, "loss": 0.5},
    "a bare entry": lambda state: {"model": state},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_weights_are_the_same_weights(name, tmp_path, dataset):
    state = models.randomized(models.VBPR(dataset, DIM, HIDDEN)).state_dict()
    torch.save(dict(state), tmp_path / "bare.pth")
    torch.save(WRAPPED[name](dict(state)), tmp_path / "wrapped.pth")
    bare, wrapped = (read_state(tmp_path / f"{which}.pth") for which in ("bare", "wrapped"))
    assert list(wrapped.tensors) == list(bare.tensors)
    for key, array in bare.tensors.items():
        np.testing.assert_array_equal(wrapped.tensors[key], array)
    assert wrapped.epochs == (5 if "epoch" in WRAPPED[name](dict(state)) else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_imported_weights_give_the_same_scores(kind, dataset, settings, tmp_path):
    model = models.randomized(KINDS[kind](dataset))
    file = save(model, tmp_path / "model.pth")
    imported = import_mmrec(file, settings, tmp_path / "run")
    assert_same_scores(scores_of_run(tmp_path / "run", dataset), models.scores_of(model))
    chosen = imported.settings.model
    assert chosen.dim == DIM and imported.changed["model.dim"] == (8, DIM)
    if kind == "mmgcn, add":
        assert (chosen.name, chosen.fuse, chosen.n_layers) == ("mmgcn", "add", 3)
        assert chosen.hidden == HIDDEN and chosen.latent_dims == {"visual": 10}
    if kind == "mmgcn, two layers of one width":
        assert (chosen.fuse, chosen.n_layers, chosen.latent_dims) == ("concat", 2, {})


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("order", [(VISUAL, TEXTUAL), (TEXTUAL, VISUAL)])
def test_graph_models_of_mmrec_give_the_same_scores(name, order, with_modalities, config, tmp_path):
    """Also with tables of raw features that training has moved, which `randomized` does."""
    settings, data = with_modalities(*order)
    make, use = GRAPHS[name]
    config.data.update(source="mmrec", root=settings.data.root, modalities=order)
    use(config)
    model = models.randomized(make(data, DIM))
    file = save(model, tmp_path / "model.pth")
    imported = import_mmrec(file, from_config(config), tmp_path / "run")
    assert_same_scores(scores_of_run(tmp_path / "run", data), models.scores_of(model))
    assert imported.settings.model.name == name and imported.settings.model.dim == DIM
    assert imported.settings.adversarial.defense == "none"
    if name in ("mgcn", "lattice"):
        assert imported.settings.model.trained_features
        for table, m in ((model.image_embedding, "v"), (model.text_embedding, "t")):
            table.weight.data = torch.tensor(model.raw[m])
        frozen = import_mmrec(save(model, file), from_config(config), tmp_path / "frozen")
        assert not frozen.settings.model.trained_features
        assert_same_scores(scores_of_run(tmp_path / "frozen", data), models.scores_of(model))


def test_graph_models_that_cannot_be_told_or_are_not_whole(dataset, settings, config, tmp_path):
    file = save(models.randomized(models.FREEDOM(dataset, DIM)), tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"as FREEDOM's, but MMGCF's .*--config baby_freedom"):
        import_mmrec(file, settings, tmp_path / "run")
    config.data.update(source="mmrec", root=settings.data.root)
    base.use_freedom(config)
    state = models.randomized(models.FREEDOM(dataset, DIM)).state_dict()
    for changed, said in (
        ({**state, "image_weight": torch.ones(2)}, "unknown tensors image_weight"),
        ({k: v for k, v in state.items() if k != "text_trs.bias"}, "lacks the tensor text_trs.b"),
        (
            {**state, "image_embedding.weight": torch.zeros(50, 63)},
            r"image_embedding.weight is \(50, 63\); wanted \(50, 64\)",
        ),
    ):
        torch.save(changed, file)
        with pytest.raises(InputError, match=said):
            import_mmrec(file, from_config(config), tmp_path / "run")
    for make, change, said in (
        # LGMRec never trains its tables, so that others are of other data.
        (
            models.LGMRec,
            lambda state: {**state, "text_embedding.weight": state["text_embedding.weight"] + 1},
            "is not the textual features of data set 'synthetic', which LGMRec never trains",
        ),
        (
            models.DRAGON,
            lambda state: {k: v for k, v in state.items() if k != "image_trs.weight"},
            "DualGNN by its names",
        ),
    ):
        torch.save(change(models.randomized(make(dataset, DIM)).state_dict()), file)
        with pytest.raises(InputError, match=said):
            import_mmrec(file, from_config(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["vbpr", "mmgcn", "plain vbpr"])
def test_the_modalities_order_is_the_datas(kind, with_modalities, tmp_path):
    settings, data = with_modalities(TEXTUAL, VISUAL)
    assert data.modalities == ("textual", "visual")
    model = models.randomized(KINDS[kind](data), seed=1)
    import_mmrec(save(model, tmp_path / "model.pth"), settings, tmp_path / "run")
    assert_same_scores(scores_of_run(tmp_path / "run", data), models.scores_of(model))


@pytest.mark.parametrize("entry", [VISUAL, TEXTUAL])
def test_plain_vbpr_of_one_modality(entry, with_modalities, tmp_path):
    settings, data = with_modalities(entry)
    model = models.randomized(models.PlainVBPR(data, DIM))
    import_mmrec(save(model, tmp_path / "model.pth"), settings, tmp_path / "run")
    assert_same_scores(scores_of_run(tmp_path / "run", data), models.scores_of(model))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_become_float32(dtype, dataset, settings, tmp_path):
    model = models.randomized(models.VBPR(dataset, DIM, HIDDEN)).to(dtype)
    file = save(model, tmp_path / "model.pth")
    state = read_state(file).tensors
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == np.float32
        np.testing.assert_array_equal(state[name], tensor.float().numpy())
    import_mmrec(file, settings, tmp_path / "run")
    expected = models.scores_of(model.float())
    assert_same_scores(scores_of_run(tmp_path / "run", dataset), expected)


def test_what_is_imported_is_a_run(dataset, settings, tmp_path):
    model = models.randomized(models.VBPR(dataset, DIM, HIDDEN))
    file = save(model, tmp_path / "model.pth", epoch=41, optimizer={"state": {}}, cur_step=3)
    workdir = tmp_path / "below" / "run"
    imported = import_mmrec(file, settings, workdir)
    assert {p.name for p in workdir.iterdir()} == {"config.json", "checkpoints"}
    assert list(workdir.parent.iterdir()) == [workdir]
    assert store.read_json(workdir / "config.json") == json.loads(
        json.dumps(to_dict(imported.settings))
    )
    meta = checkpoint.load_meta(workdir, "pretrain", "best")
    assert (meta["stage"], meta["epoch"], meta["best_epoch"]) == ("pretrain", 42, 42)
    assert meta["imported_from"]["file"] == "model.pth"
    assert len(meta["imported_from"]["sha256"]) == 64
    # Stage 2 starts from it.
    later = dataclasses.replace(
        imported.settings,
        pretrain=dataclasses.replace(imported.settings.pretrain, init_from=str(workdir)),
    )
    restored = checkpoint.restore(workdir, "pretrain", "best")
    params, source = first_params(later, tmp_path / "next", restored.model, dataset, False)
    np.testing.assert_array_equal(params.encoder.user, model.u_embedding.detach().numpy())
    assert source["copied_from"] == str(workdir)
    # And it is attacked.
    config = load_config("attack")
    config.targets.sample, config.targets.rule = 2, "quantile"
    config.bootstrap = 10
    chosen = from_values(AttackRunSettings, config)
    results, _ = run_attacks(chosen, open_runs(workdir), only=["fgsm"], show_progress=False)
    assert len(results) == 1 and len(results[0]["rows"]) == 2
    with pytest.raises(InputError, match="run: not empty"):
        import_mmrec(file, settings, workdir)


def test_an_empty_workdir_is_taken(dataset, settings, tmp_path):
    (tmp_path / "run").mkdir()
    file = save(models.randomized(models.PlainVBPR(dataset, DIM)), tmp_path / "model.pth")
    import_mmrec(file, settings, tmp_path / "run")
    assert checkpoint.saved_epoch(tmp_path / "run", "pretrain", "best") == 0


def drop(*names):
    return lambda state: {k: v for k, v in state.items() if k not in names}


def put(name, value):
    return lambda state: {**state, name: value}


def cut(name, shape):
    return lambda state: {**state, name: torch.zeros(shape)}


REFUSED = {
    "too few users": (
        "vbpr",
        cut("u_embedding", (59, 12)),
        r"u_embedding is \(59, 12\); wanted \(60, 12\) with data set 'synthetic' \(60 users",
    ),
    "other items": ("vbpr", cut("i_embedding", (51, 6)), r"\(51, 6\); wanted \(50, 6\)"),
    "other raw width": (
        "vbpr",
        cut("item_v_proj.0.weight", (9, 63)),
        r"item_v_proj.0.weight is \(9, 63\); wanted \(9, 64\).*visual features of 64",
    ),
    "plain, other raw width": (
        "plain vbpr",
        cut("item_linear.weight", (6, 95)),
        r"item_linear.weight is \(6, 95\); wanted \(6, 96\)",
    ),
    "missing": ("vbpr", drop("item_linear.bias"), "lacks the tensor item_linear.bias"),
    "missing embedding": ("vbpr", drop("i_embedding"), "lacks the tensor i_embedding"),
    "missing projector": ("vbpr", drop("item_t_proj.0.weight"), r"weights at \[2, 3\]; wanted"),
    "unknown": ("mmgcn", put("head.weight", torch.zeros(1)), "unknown tensors head.weight"),
    "flat": ("vbpr", cut("i_embedding", (50,)), r"i_embedding is \(50,\); wanted a matrix"),
    "NaN": (
        "vbpr",
        put("u_embedding", torch.full((60, 12), float("nan"))),
        "u_embedding has values that are not finite",
    ),
    "beyond float32": (
        "vbpr",
        put("temperature", torch.tensor(1e300, dtype=torch.float64)),
        "temperature has values that are not finite in float32",
    ),
    "integers": ("vbpr", put("u_embedding", torch.zeros(60, 12).long()), "not a dense tensor"),
    "sparse": ("vbpr", put("u_embedding", torch.eye(4).to_sparse()), "not a dense tensor"),
    "not a tensor": ("vbpr", put("u_embedding", [1.0]), "u_embedding is a list, not a tensor"),
    "a view that pretends": (
        "vbpr",
        put("u_embedding", torch.zeros(1).expand(10**9, 12)),
        "more than the file holds",
    ),
    "no preferences": (
        "mmgcn",
        drop("v_gcn.preference", "t_gcn.preference"),
        r"lacks v_gcn.preference and t_gcn.preference.*torch.save\(\{\*\*model.state_dict\(\), "
        r"'v_gcn.preference': model.v_gcn.preference, 't_gcn",
    ),
    "odd fusion": (
        "mmgcn",
        cut("v_gcn.g_layer1.weight", (6, 9)),
        r"reads 9 values; wanted 16 \(concat\) or 10 \(add\)",
    ),
    "towers of unlike depth": (
        "mmgcn",
        drop("v_gcn.conv_embed_3.weight", "v_gcn.linear_layer3.weight"),
        "unknown tensors t_gcn.conv_embed_3.weight, t_gcn.g_layer3.bias",
    ),
    "a widening to the same width": (
        "mmgcn, two layers of one width",
        lambda state: {
            **state,
            "v_gcn.MLP.weight": torch.zeros(DIM, DIM),
            "v_gcn.MLP.bias": torch.zeros(DIM),
        },
        "with equal widths there is no such layer",
    ),
    "MMRec's MMGCN": (
        "mmgcn",
        lambda state: {k: v for k, v in state.items() if not k.startswith(("item_", "id_"))},
        "MMRec's own MMGCN",
    ),
    "another model": (
        "vbpr",
        lambda _: {"user_embeddings.weight": torch.zeros(3, 2)},
        r"neither VBPR nor MMGCN, .*by its names \(user_embeddings.weight\)",
    ),
    "nothing": ("vbpr", lambda _: {}, "no state_dict in it"),
    "a tensor alone": ("vbpr", lambda _: torch.zeros(3), "no state_dict in it"),
    "numbered": ("vbpr", lambda _: {3: torch.zeros(3)}, "no state_dict in it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, dataset, settings, tmp_path):
    kind, change, message = REFUSED[name]
    state = models.randomized(KINDS[kind](dataset)).state_dict()
    torch.save(change(state), tmp_path / "model.pth")
    with pytest.raises(InputError, match=message) as refused:
        import_mmrec(tmp_path / "model.pth", settings, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


def test_other_modalities_are_refused_by_name(dataset, settings, with_modalities, tmp_path):
    changed, _ = with_modalities(VISUAL, "audio:text_feat.npy")
    for kind in ("vbpr", "mmgcn", "plain vbpr"):
        file = save(models.randomized(KINDS[kind](dataset)), tmp_path / "model.pth")
        with pytest.raises(InputError, match="has visual, audio"):
            import_mmrec(file, changed, tmp_path / "run")


class Config:
    """As MMRec pickles it into its checkpoints."""


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_run(dataset, settings, tmp_path):
    state = models.randomized(models.VBPR(dataset, DIM, HIDDEN)).state_dict()
    trap = tmp_path / "trap"
    for name, content in {
        "config": {"config": Config(), "state_dict": state},
        "hostile": {"config": Hostile(trap), "state_dict": state},
        "hostile tensor": {**state, "temperature": Hostile(trap)},
    }.items():
        file = tmp_path / f"{name}.pth"
        torch.save(content, file)
        with pytest.raises(InputError, match=r"could run code.*\['state_dict'\], 'weights.pth'\)"):
            import_mmrec(file, settings, tmp_path / "run")
    bare = tmp_path / "bare.pth"
    for protocol, message in ((2, "could run code"), (4, "not a readable PyTorch checkpoint")):
        bare.write_bytes(pickle.dumps(Hostile(trap), protocol))
        with pytest.raises(InputError, match=message):
            import_mmrec(bare, settings, tmp_path / "run")
    assert not trap.exists() and not (tmp_path / "run").exists()
    pickle.loads(bare.read_bytes())  # it would have
    assert trap.is_dir()


@pytest.fixture(scope="module")
def whole_files(dataset, tmp_path_factory):
    """The bytes of good checkpoints, in both of torch's containers."""
    folder = tmp_path_factory.mktemp("whole")
    found = []
    for kind in ("vbpr", "mmgcn"):
        state = models.randomized(KINDS[kind](dataset)).state_dict()
        for zipped in (True, False):
            torch.save(state, folder / "x.pth", _use_new_zipfile_serialization=zipped)
            found.append((folder / "x.pth").read_bytes())
    return found


def import_or_refuse(file, settings, run: pathlib.Path):
    """Whether a run was made; anything but a whole run or an InputError fails."""
    try:
        import_mmrec(file, settings, run)
    except InputError as error:
        assert str(file) in str(error) and "\n" not in str(error)
        assert not run.exists() and not list(run.parent.glob(f"{run.name}.partial*"))
        return False
    assert checkpoint.saved_epoch(run, "pretrain", "best") == 0
    return True


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_damaged_files_end_in_one_line(data, whole_files, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(data.draw(st.sampled_from(whole_files)))
    damage = data.draw(st.sampled_from(["random", "cut", "flip", "zip"]))
    if damage == "random":
        content = data.draw(st.binary(max_size=200))
    elif damage == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif damage == "flip":
        # In the pickle at the front, where a flip matters most.
        for place in data.draw(st.lists(st.integers(0, 3000), min_size=1, max_size=5)):
            content[place] ^= data.draw(st.integers(1, 255))
    file = folder / "model.pth"
    file.write_bytes(content)
    if damage == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(data.draw(st.sampled_from(["a/data.pkl", "b"])), content[:50])
    made = import_or_refuse(file, settings, folder / "run")
    assert not made or damage == "flip"


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_wrong_tensors_end_in_one_line(data, dataset, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    kind = data.draw(st.sampled_from(list(KINDS)))
    state = dict(models.randomized(KINDS[kind](dataset)).state_dict())
    name = data.draw(st.sampled_from(sorted(state)))
    change = data.draw(st.sampled_from(["drop", "rename", "reshape", "number"]))
    if change == "reshape":
        shape = data.draw(st.lists(st.integers(0, 12), max_size=3).filter(lambda s: s != []))
        if tuple(shape) == tuple(state[name].shape):
            return
        state[name] = torch.ones(shape)
    else:
        tensor = state.pop(name)
        if change == "rename":
            state[
                data.draw(st.text(max_size=20).filter(lambda t: t not in state and t != name))
            ] = tensor
        if change == "number":
            state[name] = data.draw(st.one_of(st.none(), st.integers(), st.text(max_size=3)))
    torch.save(state, folder / "model.pth")
    assert not import_or_refuse(folder / "model.pth", settings, folder / "run")


def test_settings_stay_those_of_the_config(dataset, settings, tmp_path):
    """But for the model, and what linear VBPR cannot be trained with."""
    file = save(models.randomized(models.PlainVBPR(dataset, DIM)), tmp_path / "model.pth")
    imported = import_mmrec(file, settings, tmp_path / "run")
    assert imported.changed == {
        "adversarial.defense": ("uat_mc", "uat"),
        "model.dim": (8, DIM),
        "model.name": ("vbpr", "linear_vbpr"),
        "pretrain.alpha": (1.0, 0.0),
    }
    assert open_dataset(imported.settings.data).fingerprint == dataset.fingerprint
