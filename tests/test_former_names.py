"""Runs, rows and digests of before settings had the names they have now."""

import copy
import hashlib
import json
import shutil

import pytest

from configs import attack as attack_config
from configs import baby_mmgcn, baby_vbpr, base, synthetic_vbpr
from experiments import report
from experiments.scoreboard import board, pareto
from experiments.scoreboard.board import Board
from tests.conftest import ROOT
from uatmc_jax.errors import InputError
from uatmc_jax.models import OwnModelSettings, VBPRSettings
from uatmc_jax.settings import (
    AdversarialSettings,
    AttackRunSettings,
    AuditSettings,
    ModelSettings,
    Settings,
    as_recorded,
    from_config,
    from_values,
    load_config,
    result_with_new_names,
    to_dict,
)
from uatmc_jax.training.folder import without_free_fields

RESULTS = ROOT / "experiments" / "results"


def former(config=None):
    """A config.json as the first versions wrote it."""
    return json.loads(json.dumps(as_recorded(Settings, to_dict(from_config(config or base_of())))))


def base_of():
    config = base.get_config()
    config.adversarial.content_weight, config.adversarial.train_projector_head = 0.2, True
    return config


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# As computed by the code of commit 18b8fb3, whose names these were.
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (base.get_config("published"), "9c371fcea16a352b"),
        (baby_vbpr.get_config("published"), "b65cf2370141c982"),
        (baby_mmgcn.get_config("published"), "61e9ae399de70dd5"),
        (synthetic_vbpr.get_config("paper"), "c3f131de290893f5"),
    ],
)
def test_digests_of_trainings_are_what_they_were(config, expected):
    assert digest(as_recorded(Settings, without_free_fields(from_config(config)))) == expected


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("published", "50dcad29fa340a37"),
        ("paper", "021d216c7d930395"),
        ("suite", "c3606e1f59de9ea2"),
    ],
)
def test_digests_of_attacks_are_what_they_were(preset, expected):
    settings = from_values(AttackRunSettings, attack_config.get_config(preset))
    assert digest(as_recorded(AttackRunSettings, to_dict(settings))) == expected


def test_a_former_config_is_read():
    plain = former()
    assert {"content", "train_output"} < set(plain["adversarial"])
    assert {"latent_dims", "n_layers", "fuse", "train_preference"} < set(plain["model"])
    assert from_config(plain) == from_config(base_of())
    mmgcn = former(baby_mmgcn.get_config())
    assert from_config(mmgcn) == from_config(baby_mmgcn.get_config())


def test_both_names_are_one_too_many():
    plain = former()
    plain["adversarial"]["content_weight"] = 0.3
    with pytest.raises(InputError, match=r"adversarial\.content is called content_weight now"):
        from_config(plain)


def test_former_attacks_audits_and_boards_are_read():
    plain = to_dict(from_values(AttackRunSettings, attack_config.get_config()))
    was = {("path" if name == "scorer" else name): value for name, value in plain.items()}
    assert to_dict(from_values(AttackRunSettings, was)) == plain
    audit = to_dict(from_values(AuditSettings, load_config("audit")))
    was = copy.deepcopy(audit)
    was["beside"] = was.pop("other_threats")
    for fields in was["harden"].values():
        if "train_projector_head" in fields:
            fields["train_output"] = fields.pop("train_projector_head")
    assert "train_output" in was["harden"]["exact_05"]
    assert to_dict(from_values(AuditSettings, was)) == audit
    entries = {"content": {"defense": "none", "content": 0.2}}
    own = load_config("scoreboard").to_dict() | {"entries": entries}
    own["together"] = own.pop("vmapped")
    assert from_values(Board, own).entries["content"] == {"defense": "none", "content_weight": 0.2}


def test_mmgcns_fields_are_dropped_of_a_former_section_and_refused_of_a_new_one():
    section = former()["model"]
    assert from_values(ModelSettings, section) == VBPRSettings()
    del section["fuse"]
    with pytest.raises(InputError, match=r"config\.latent_dims: no such field"):
        from_values(ModelSettings, section)


def test_options_of_a_model_of_ones_own():
    """Given in the config or not, a factory reads them as attributes."""
    common = to_dict(VBPRSettings()) | {"name": "my_models:make"}
    plain = from_values(ModelSettings, common)
    assert isinstance(plain, OwnModelSettings) and plain.n_layers == 3 and plain.fuse == "concat"
    told = from_values(ModelSettings, common | {"n_layers": 2, "heads": 4})
    assert (told.n_layers, told.heads) == (2, 4) and copy.deepcopy(told) == told
    assert from_values(ModelSettings, json.loads(json.dumps(to_dict(told)))) == told
    assert as_recorded(OwnModelSettings, to_dict(told))["n_layers"] == 2
    with pytest.raises(AttributeError, match=r"give config\.model\.depths"):
        print(told.depths)
    # What a former section says by default is what a new one leaves out.
    assert (
        from_values(ModelSettings, common | former()["model"] | {"name": common["name"]}) == plain
    )


# Two rows as a scoreboard wrote them before names changed.
FORMER = ROOT / "tests" / "former_board.jsonl"
BOARDS = [FORMER, *sorted((RESULTS / "scoreboard").glob("*.jsonl"))]


def test_a_board_of_before_has_former_names():
    assert FORMER.read_text(encoding="utf-8").count('"train_output"') >= 2


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.name)
def test_rows_are_read(file):
    rows = pareto.read_rows(file)
    for row in rows:
        assert row["evaluation"]["settings"]["scorer"] == "auto"
        if row["defense"]["epochs"]:
            read = from_values(AdversarialSettings, row["defense"])
            assert read.content_weight == row["defense"]["content_weight"]
            assert row["trained_with"]["adversarial"]["content_weight"] == read.content_weight


def test_former_results_are_read():
    found = result_with_new_names({"linear": True, "settings": {"path": "auto"}, "defense": None})
    assert found == {"affine_in_content": True, "settings": {"scorer": "auto"}, "defense": None}


def test_committed_pages_are_rebuilt_byte_for_byte(tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")
    pages = [tmp_path / "results" / "REPORT.md", tmp_path / "results/scoreboard" / board.PAGE]
    before = [page.read_bytes() for page in pages]
    for page in pages:
        page.unlink()
    report.write_report(tmp_path / "results")
    board.rebuild(tmp_path / "results" / "scoreboard")
    assert [page.read_bytes() for page in pages] == before


def test_defaults_are_the_published_values():
    """configs/base.py spells them out for readers; there is one truth."""
    assert from_config(base.get_config()) == Settings()
