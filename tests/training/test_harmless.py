"""A training shaped by harmless edits: what it reads, what it refuses, and that it trains."""

import numpy as np
import pytest

from configs import base
from uatmc_jax import store
from uatmc_jax.data import make_synthetic
from uatmc_jax.defenses import AdversarialSettings, kinds
from uatmc_jax.defenses.shapes import shape_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import VBPRSettings
from uatmc_jax.models.registry import build_model
from uatmc_jax.settings import Settings, from_values
from uatmc_jax.training.harmless import harmless_shapes
from uatmc_jax.training.stages import adversarial_parts, init_params


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(file, data, settings, model, parameters)."""
    data = make_synthetic(3, n_users=60, n_items=40, n_interactions=400)
    file = tmp_path_factory.mktemp("harmless") / "harmless.npz"
    rng, arrays = np.random.default_rng(0), {}
    for name, matrix in zip(data.modalities, data.features, strict=True):
        items = rng.integers(0, len(matrix), 8).astype(np.int32)
        arrays |= {f"{name}_items": items, f"{name}_before": matrix[items]}
        moved = 0.1 * rng.normal(size=matrix[items].shape)
        arrays[f"{name}_features"] = (matrix[items] + moved).astype(np.float32)
    store.write_arrays(file, arrays)
    config = base.get_config()
    config.data.source = "synthetic"
    config.adversarial.defense, config.adversarial.harmless = "shaped", str(file)
    config.adversarial.eps = 2.0
    settings = from_values(Settings, config)
    model = build_model(VBPRSettings(dim=4), data.sizes)
    return file, data, settings, model, init_params(settings, model)


def test_the_shape_is_that_of_the_projected_edits(case):
    file, data, settings, model, params = case
    arrays, names = store.read_arrays(file), data.modalities
    found = harmless_shapes(settings.adversarial, names, model, params, data.features)
    rows = [[arrays[f"{name}_{what}"] for name in names] for what in ("before", "features")]
    z, moved = (model.project(params.projectors, tuple(x)) for x in rows)
    for a, before, after in zip(found, z, moved, strict=True):
        expected = shape_of(np.asarray(before), np.asarray(after))
        np.testing.assert_allclose(a, expected, atol=1e-6)
    parts = adversarial_parts(settings, model, params, data.on_device)
    for one, other in zip(parts.frozen.shapes, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_is_no_such_file_is_refused(case, tmp_path):
    file, data, _, model, params = case

    def shapes(path, **fields):
        chosen = kinds.shaped(str(path), **fields)
        return harmless_shapes(chosen, data.modalities, model, params, data.features)

    with pytest.raises(InputError, match=r"harmless = .*nowhere.*no such file.*uatmc edit"):
        shapes(tmp_path / "nowhere.npz")
    arrays = store.read_arrays(file)
    first, second = data.modalities
    some = {name: array for name, array in arrays.items() if name.startswith(first)}
    store.write_arrays(tmp_path / "one.npz", some)
    with pytest.raises(InputError, match=f"no harmless edits of modality {second}"):
        shapes(tmp_path / "one.npz")
    alone = shapes(tmp_path / "one.npz", modalities=(first,))
    assert np.any(alone[0]) and not np.any(alone[1])
    others = {f"{first}_before": arrays[f"{first}_before"] + 1}
    store.write_arrays(tmp_path / "other.npz", arrays | others)
    with pytest.raises(InputError, match="are of other data"):
        shapes(tmp_path / "other.npz")


@pytest.mark.parametrize(
    "fields",
    [
        {"harmless": ""},
        {"train_projector_head": True},
        {"swap_modalities": True},
        {"defense": "uat"},
    ],
)
def test_settings_that_do_not_go_together(fields):
    with pytest.raises(InputError, match=r"config\.adversarial"):
        AdversarialSettings(**{"defense": "shaped", "harmless": "x.npz"} | fields)
