import importlib
import json

import pytest

from configs import base
from experiments.scoreboard.board import Board
from experiments.study import Plan
from experiments.victims.plan import Comparison
from tests.conftest import ROOT
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import (
    AttackRunSettings,
    AuditSettings,
    Settings,
    from_config,
    from_values,
    to_dict,
)

BAD = {
    "model.name": "popularity",
    "model.dim": 0,
    "model.hidden.visual": (0,),
    "eval.every": 101,
    "seed": -1,
    "data.source": "csv",
    "data.modalities": (),
    "pretrain.epochs": 0,
    "pretrain.patience": 0,
    "pretrain.batch_size": 0,
    "pretrain.mu": -0.1,
    "pretrain.alpha": -1.0,
    "pretrain.nce_items": -5,
    "pretrain.optimizer.learning_rate": 0.0,
    "pretrain.optimizer.schedule": "step",
    "pretrain.optimizer.clip_norm": -1.0,
    "pretrain.optimizer.rows": "sparse",
    "pretrain.optimizer.shuffle": "none",
    "adversarial.defense": "uatmc",
    "adversarial.norm": "l1",
    "adversarial.level": "pixel",
    "adversarial.eps": -0.1,
    "adversarial.lam": float("nan"),
    "adversarial.beta": float("inf"),
    "adversarial.steps": 0,
    "adversarial.step_size": 0.0,
    "adversarial.content_weight": -0.1,
    "adversarial.ramp_epochs": -1,
    "adversarial.modalities": ("audio",),
    "eval.ks": (5, 10),
    "checkpoint.every_seconds": -1.0,
}


@pytest.mark.parametrize("field", BAD)
def test_bad_values_are_refused_by_name(config, field):
    config.update_from_flattened_dict({field: BAD[field]})
    with pytest.raises(InputError, match=f"config.{field}"):
        from_config(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("fuse", "False"), ("n_layers", 0), ("latent_dims", {"visual": -3}), ("n_layer", 2)],
)
def test_bad_values_of_mmgcn_are_refused_by_name(config, field, value):
    config.model.update({"name": "mmgcn", field: value})
    with pytest.raises(InputError, match=f"config.model.{field}"):
        from_config(config)


def test_unknown_missing_and_ill_typed_fields():
    values = to_dict(from_config(base.get_config()))
    with pytest.raises(InputError, match=r"config\.pretrain\.lamda: no such field"):
        from_config(values | {"pretrain": values["pretrain"] | {"lamda": 1}})
    with pytest.raises(InputError, match=r"config\.adversarial\.stepsize.*'step_size'"):
        from_config(values | {"adversarial": values["adversarial"] | {"stepsize": 1}})
    with pytest.raises(InputError, match=r"config\.seed is missing"):
        from_config({k: v for k, v in values.items() if k != "seed"})
    with pytest.raises(InputError, match=r"config\.seed = True"):
        from_config(values | {"seed": True})
    with pytest.raises(InputError, match=r"config\.eval\.ks = 20"):
        from_config(values | {"eval": values["eval"] | {"ks": 20}})
    with pytest.raises(InputError, match=r"config\.data = 3"):
        from_config(values | {"data": 3})


def test_alignment_needs_two_modalities(config):
    config.data.modalities = ("visual:image_feat.npy",)
    with pytest.raises(InputError, match="two or more modalities"):
        from_config(config)
    config.adversarial.defense = "uat"
    from_config(config)


def test_alignment_needs_two_perturbed_modalities(config):
    config.adversarial.modalities = ("visual",)
    with pytest.raises(InputError, match="two or more modalities, but 1 is perturbed"):
        from_config(config)


def test_what_a_defence_cannot_do_is_refused_before_pre_training(config):
    config.adversarial.update(defense="dropout", eps=1.0)
    with pytest.raises(InputError, match=r"config\.adversarial\.eps = 1.0: .*dropout"):
        from_config(config)
    config.adversarial.update(defense="mirror", lam=1.0)
    with pytest.raises(InputError, match=r"config\.adversarial\.lam = 1.0: .*'mirror'"):
        from_config(config)
    config.adversarial.update(defense="uat_mc", modalities=("visual", "visual"))
    with pytest.raises(InputError, match=r"config\.adversarial\.modalities.*each modality once"):
        from_config(config)
    config.adversarial.update(defense="exact", level="feature", modalities=())
    with pytest.raises(InputError, match=r"config\.adversarial\.level = 'feature': .*'exact'"):
        from_config(config)
    config.adversarial.level = "projected"
    from_config(config)
    config.model.name = "mmgcn"
    with pytest.raises(InputError, match=r"'exact' needs scores .* affine"):
        from_config(config)
    config.adversarial.defense = "linearized"
    from_config(config)


def test_settings_written_before_a_field_existed_still_read(config):
    values = to_dict(from_config(config))
    for field in ("content_weight", "modalities", "ramp_epochs"):
        del values["adversarial"][field]
    assert from_config(values) == from_config(config)


# The others are experiments.
KINDS = {
    "attack": AttackRunSettings,
    "audit": AuditSettings,
    "reproduce": Plan,
    "scoreboard": Board,
    "victims": Comparison,
}


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("[!_]*.py")))
def test_every_config_is_valid_and_survives_json(file):
    module = importlib.import_module(f"configs.{file.stem}")
    kind = KINDS.get(file.stem, Settings)
    for preset in getattr(module, "PRESETS", base.PRESETS):
        settings = from_values(kind, module.get_config(preset))
        assert from_values(kind, json.loads(json.dumps(to_dict(settings)))) == settings


def test_presets_differ_as_documented():
    published, paper = (from_config(base.get_config(p)).adversarial for p in ("published", "paper"))
    assert (published.level, paper.level) == ("projected", "feature")
    with pytest.raises(ValueError, match="presets are"):
        base.get_config("draft")


def test_synthetic_data_refuses_modalities_it_does_not_have(config):
    config.data.modalities = ("visual:a.npy", "audio:b.npy")
    with pytest.raises(InputError, match="the synthetic data has"):
        open_dataset(from_config(config).data)


def test_data_root_from_the_environment(config, monkeypatch, tmp_path):
    config.data.source, config.data.name = "mmrec", "baby"
    monkeypatch.setenv("UATMC_DATA", str(tmp_path))
    with pytest.raises(InputError, match=str(tmp_path / "baby")):
        open_dataset(from_config(config).data)
    config.data.root = "elsewhere"
    with pytest.raises(InputError, match="elsewhere/baby"):
        open_dataset(from_config(config).data)
