"""safetensors files: bit for bit there and back, and a clear refusal of all others."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from uatmc_jax import checkpoint
from uatmc_jax.conversion import export_run, import_file
from uatmc_jax.conversion.imported import write_run
from uatmc_jax.data import make_synthetic, write_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import MODELS, build_model
from uatmc_jax.settings import to_dict
from uatmc_jax.training.stage import Progress

safetensors = pytest.importorskip("safetensors", reason="the extra 'safetensors'")
from safetensors.numpy import load_file, save_file  # noqa: E402

PROGRESS = Progress(7, 5, 0.25, 12.5)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def settings_of(settings, name):
    return dataclasses.replace(
        settings,
        model=MODELS[name].settings(dim=8, hidden={}, default_hidden=(16,)),
        pretrain=dataclasses.replace(settings.pretrain, alpha=0.0),
        adversarial=dataclasses.replace(settings.adversarial, defense="uat"),
    )


def write(settings, dataset, workdir):
    """A run with random parameters, to the last bit: tiny values and negative zeros too."""
    model = build_model(settings.model, dataset.sizes)
    rng = np.random.default_rng(1)

    def noise(x):
        drawn = rng.normal(size=x.shape).astype(np.float32)
        drawn.reshape(-1)[:2] = (-0.0, 1e-42)[: drawn.size]
        return jnp.asarray(drawn)

    params = jax.tree.map(noise, model.init(jax.random.key(0)))
    write_run(workdir, settings, dataset, params, PROGRESS, {"format": "test"})
    return params


@pytest.fixture(scope="session")
def exported(dataset, tmp_path_factory):
    """A function of the settings and a model: the file of a run of it, and its parameters."""
    made = {}

    def make(settings, name):
        if name not in made:
            folder = tmp_path_factory.mktemp("exported")
            params = write(settings_of(settings, name), dataset, folder / "run")
            export_run(folder / "run", "pretrain", "best", folder / "model.safetensors")
            assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "run"]
            made[name] = folder / "model.safetensors", params
        return made[name]

    return make


@pytest.mark.parametrize("name", ["vbpr", "linear_vbpr", "mmgcn"])
def test_there_and_back_bit_for_bit(name, exported, settings, dataset, tmp_path):
    file, params = exported(settings, name)
    imported = import_file(file, tmp_path / "run")
    restored = checkpoint.restore(tmp_path / "run", "pretrain", "best", dataset, name)
    assert jax.tree.structure(restored.params) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(restored.params), jax.tree.leaves(params), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes() and a.shape == b.shape
    assert to_dict(imported.settings) == to_dict(settings_of(settings, name))
    assert {k: restored.meta[k] for k in Progress._fields} == PROGRESS._asdict()
    source = restored.meta["imported_from"]
    assert (source["file"], source["stage"]) == ("model.safetensors", "pretrain")
    # The second file equals the first.
    export_run(tmp_path / "run", "pretrain", "best", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_names_and_metadata_are_readable(exported, settings, dataset):
    file, params = exported(settings, "mmgcn")
    tensors = load_file(file)
    own = tensors["encoder.towers.1.layers.2.own.kernel"]
    np.testing.assert_array_equal(own, params.encoder.towers[1].layers[2].own.kernel)
    assert "projectors.visual.params.Dense_0.kernel" in tensors and tensors["temperature"].ndim == 0
    with safetensors.safe_open(file, framework="numpy") as content:
        meta = json.loads(content.metadata()["uatmc_jax"])
    assert (meta["format"], meta["stage"], meta["which"]) == (1, "pretrain", "best")
    assert meta["dataset"]["fingerprint"] == dataset.fingerprint
    assert meta["sizes"] == {
        "n_users": 60,
        "n_items": 50,
        "raw_dims": {"visual": 64, "textual": 32},
    }


def test_other_data_are_refused(exported, settings, tmp_path):
    file, _ = exported(settings, "vbpr")
    other = make_synthetic(4, n_users=60, n_items=50, n_interactions=500)
    write_dataset(other, tmp_path / "data" / "synthetic")
    with pytest.raises(InputError, match=f"with fingerprint {other.fingerprint}"):
        import_file(file, tmp_path / "run", str(tmp_path / "data"))
    with pytest.raises(InputError, match="nowhere"):
        import_file(file, tmp_path / "run", "nowhere")
    assert not (tmp_path / "run").exists()


def test_the_data_may_have_moved(exported, settings, dataset, tmp_path):
    file, _ = exported(settings, "vbpr")
    write_dataset(dataset, tmp_path / "moved" / "synthetic")
    imported = import_file(file, tmp_path / "run", str(tmp_path / "moved"))
    assert imported.settings.data.root == str(tmp_path / "moved")


def change_meta(**changes):
    def change(tensors, meta):
        return tensors, {k: v for k, v in (meta | changes).items() if v is not None}

    return change


def change_model(**changes):
    def change(tensors, meta):
        settings = meta["settings"] | {"model": meta["settings"]["model"] | changes}
        return tensors, meta | {"settings": settings}

    return change


def change_tensor(name, make):
    def change(tensors, meta):
        tensors = {k: v for k, v in tensors.items() if k != name}
        made = make()
        return tensors if made is None else {**tensors, name: made}, meta

    return change


REFUSED = {
    "missing tensor": (change_tensor("encoder.bias", lambda: None), "lacks tensor 'encoder.bias'"),
    "unknown tensor": (change_tensor("x.y", lambda: np.zeros(1)), "has the unknown tensor 'x.y'"),
    "shape": (
        change_tensor("encoder.bias", lambda: np.zeros(9, np.float32)),
        r"encoder.bias is \(9,\) float32; wanted \(8,\) float32",
    ),
    "type": (change_tensor("encoder.bias", lambda: np.zeros(8)), r"is \(8,\) float64; wanted"),
    "NaN": (
        change_tensor("encoder.bias", lambda: np.full(8, np.nan, np.float32)),
        "encoder.bias has values that are not finite",
    ),
    "another format": (change_meta(format=2), "format 2; this version reads 1"),
    "no data set": (change_meta(dataset=None), "metadata is incomplete"),
    "no epoch": (change_meta(epoch=None), "metadata is incomplete"),
    "an epoch of text": (change_meta(epoch="7"), "metadata is incomplete"),
    "no settings": (change_meta(settings=None), "config = None: wanted a section"),
    "other settings": (change_meta(settings={"seed": 1}), "config.data is missing"),
    "unknown model": (change_model(name="ease"), r"config\.model\.name = 'ease'"),
    "code": (change_model(name="os:getcwd"), "its model is code of its own"),
    "another model": (change_model(name="mmgcn"), "has the unknown tensor 'encoder.bias'"),
    "layers without end": (change_model(name="mmgcn", n_layers=10**9), "larger than its tensors"),
    "width without end": (change_model(hidden={"visual": [10**30]}), "larger than its tensors"),
    "another width": (change_model(dim=9), r"bias is \(8,\) float32; wanted \(9,\) float32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, exported, settings, tmp_path):
    change, message = REFUSED[name]
    file, _ = exported(settings, "vbpr")
    with safetensors.safe_open(file, framework="numpy") as content:
        meta = json.loads(content.metadata()["uatmc_jax"])
    tensors, meta = change(load_file(file), meta)
    save_file(tensors, tmp_path / "x.safetensors", {"uatmc_jax": json.dumps(meta)})
    with pytest.raises(InputError, match=message):
        import_file(tmp_path / "x.safetensors", tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_files_of_others_are_refused(tmp_path):
    file, run = tmp_path / "x.safetensors", tmp_path / "run"
    with pytest.raises(InputError, match=r"x\.safetensors: no such file"):
        import_file(file, run)
    for metadata, message in (
        (None, "its metadata has no 'uatmc_jax'"),
        ({"uatmc_jax": "{"}, "its metadata is not JSON"),
        ({"uatmc_jax": "[" * 100_000}, "its metadata is not JSON"),
        ({"uatmc_jax": "3"}, "its metadata is incomplete"),
    ):
        save_file({"a": np.zeros(3)}, file, metadata)
        with pytest.raises(InputError, match=message):
            import_file(file, run)
    run.mkdir()
    (run / "kept").write_text("")
    with pytest.raises(InputError, match="run: not empty"):
        import_file(file, run)


def test_export_refuses_before_it_reads(exported, settings, tmp_path):
    file, _ = exported(settings, "vbpr")
    before = file.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        export_run(file.parent / "run", "pretrain", "best", file)
    assert file.read_bytes() == before
    with pytest.raises(InputError, match="no such folder"):
        export_run(file.parent / "run", "pretrain", "best", tmp_path / "no" / "x.safetensors")
    with pytest.raises(InputError, match="no checkpoint"):
        export_run(file.parent / "run", "adversarial", "best", tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="stage = 'first'"):
        export_run(file.parent / "run", "first", "best", tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(exported, settings, dataset, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("uatmc_jax.conversion.imported.store.write_json", full)
    with pytest.raises(OSError, match="no space"):
        import_file(exported(settings, "vbpr")[0], tmp_path / "run")
    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="no space"):
        export_run(
            exported(settings, "vbpr")[0].parent / "run", "pretrain", "best", tmp_path / "out"
        )
    assert not list(tmp_path.iterdir())


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_damaged_files_end_in_one_line(data, exported, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    file = folder / "x.safetensors"
    content = bytearray(exported(settings, "vbpr")[0].read_bytes())
    damage = data.draw(st.sampled_from(["random", "cut", "flip"]))
    if damage == "random":
        content = data.draw(st.binary(max_size=100))
    elif damage == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, 4000), min_size=1, max_size=4)):
            content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        import_file(file, folder / "run")
        assert damage == "flip"
        assert (folder / "run" / "config.json").is_file()
    except InputError as error:
        assert "\n" not in str(error) and [p.name for p in folder.iterdir()] == [file.name]
