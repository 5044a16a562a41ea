"""The audit by serving policy: what an edit does today and after a re-indexing, and its page."""

import json
import re

import pytest

from configs import audit as audit_config
from tests.auditing.cases import K, small_folder
from uatmc_jax import store
from uatmc_jax.auditing.run import run_audit
from uatmc_jax.errors import InputError
from uatmc_jax.report.audit import format_page
from uatmc_jax.report.audit.serving import section
from uatmc_jax.settings import AuditSettings, from_values

KEPT = ("fgsm", "relist", "relist_half", "copied", "pgd")


def small(preset, folder, **attack):
    """The preset on small data, in seconds."""
    config = audit_config.get_config(preset)
    config.experiment.data.update(source="mmrec", name=folder.name, root=str(folder.parent))
    config.experiment.pretrain.epochs = 2
    config.experiment.model.dim = 8
    if "n_neighbours" in config.experiment.model:
        config.experiment.model.n_neighbours = 5
    for name in [name for name in config.attack.attacks if name not in KEPT]:
        del config.attack.attacks[name]
    for one in config.attack.attacks.values():
        one.k = K
    config.attack.update(ks=(5, K), bootstrap=50, permutations=2, **attack)
    config.attack.targets.sample = 10
    config.survey = 20
    return from_values(AuditSettings, config)


def audited(preset, parent, **attack):
    settings = small(preset, small_folder(parent), **attack)
    return run_audit(settings, parent / "run", show_progress=False)


@pytest.mark.long  # whole audits, half a minute each
def test_freedom_today_and_after_the_next_re_indexing(tmp_path):
    audit = audited("freedom", tmp_path)
    assert store.read_json(tmp_path / "run" / "audit.json") == json.loads(json.dumps(audit))
    victim = audit["entries"][0]
    found = victim["serving"]["policies"]
    assert found["frozen"]["after"] == found["frozen"]["before"] == found["full"]["before"]
    assert "nothing is computed anew" in found["frozen"]["says"]
    own, full = found["own_row"], found["full"]
    assert own["after"]["value"] <= own["budget_certificate"]["value"]
    assert own["other_threats"]["copied"]["value"] <= own["any_content_certificate"]["value"]
    assert "budget_certificate" not in full and full["after"]["value"] >= full["before"]["value"]
    assert found["frozen"]["sensitivity"] == {"value": 0.0}
    assert full["sensitivity"] == victim["content"]["test"]["all"]["sensitivity"]
    others = victim["serving"]["collateral"]
    assert others["mean"]["users"] == 0 and len(others["rows"]) == 10
    assert victim["users_reached"]["attack"] == "relist"
    text = format_page(audit)
    assert "What happens to an edit, and when?" in text and "Whom else does an edit move?" in text
    assert "by copying another listing whole" in text and "under &#39;full&#39;" in text
    assert re.search(r"frozen: nothing is computed anew", text)


@pytest.mark.long
def test_a_model_that_reads_nothing_is_not_attacked(tmp_path):
    audit = audited("bm3", tmp_path)
    victim = audit["entries"][0]
    assert victim["verdict"]["blind"].startswith("bm3 reads no content when it serves")
    for one in victim["serving"]["policies"].values():
        assert one["after"] == one["before"] and one["contribution"]["value"] == 0
    assert victim["serving"]["collateral"] is None and victim["survey"] is None
    assert any("Nothing was attacked: bm3 reads" in text for text in audit["warnings"])
    assert "nothing to attack" in format_page(audit)


@pytest.mark.parametrize("preset", audit_config.PRESETS)
def test_presets_are_read(preset):
    settings = from_values(AuditSettings, audit_config.get_config(preset))
    assert settings.attack.serving == "full" and not settings.attack.collateral


def test_what_no_policy_can_be_asked_is_refused_before_any_training(tmp_path):
    settings = small("mgcn", small_folder(tmp_path))
    assert settings.other_threats == () and "uat_mc" in settings.harden
    settings = small("freedom", small_folder(tmp_path, "other"))
    listed = {"pgd": small("mgcn", tmp_path / "shop").attack.attacks["pgd"]}
    attack = settings.attack.__class__(**{**vars(settings.attack), "attacks": listed})
    changed = settings.__class__(
        **{**vars(settings), "attack": attack, "other_threats": (), "steps_of": "pgd"}
    )
    with pytest.raises(InputError, match=r"attack:lists.*Presets for other models"):
        run_audit(changed, tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run" / "victims").exists()


def test_the_sections_cells():
    one = {"value": 0.25}
    measured = {
        "says": None,
        "same_as": None,
        "before": one,
        "after": {"value": 0.5},
        "other_threats": {"copied": {"value": 0.75}},
        "contribution": None,
        "sensitivity": {"value": 0.1},
    }
    found = {
        "attacked": "full",
        "policies": {
            "frozen": measured | {"says": "nothing moves"},
            "own_row": {"says": "policy 'own_row': not said"},
            "full": measured,
        },
        "collateral": None,
    }
    shown = section(found, ("copied",), 5, lambda share: f"{100 * share:g}")
    assert [row["attacked"] for row in shown["rows"]] == [False, False, True]
    assert shown["rows"][2]["cells"] == ["25", "50", "–", "75", "–", "–", "0.1000"]
    assert shown["rows"][1]["cells"] is None and shown["notes"] == ["frozen: nothing moves."]
    found["policies"]["own_row"] = measured | {"same_as": "full"}
    assert "own_row is the same as full" in section(found, ("copied",), 5, str)["notes"][1]
    assert section(None, (), 5, str) is None
