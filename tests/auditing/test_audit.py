"""A whole audit, small: what it finds and writes, that it goes on where it was, and its page.

The page is seen as a reader meets it: in a browser, on a phone and on a desk, by day and by night.
One file, because the tests share one audit.
"""

import copy
import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import audit as audit_config
from tests import oracles
from tests.auditing.cases import K, small_audit, small_folder
from uatmc_jax import checkpoint, store
from uatmc_jax import opened as opened_module
from uatmc_jax.auditing import entries as entries_module
from uatmc_jax.auditing.entries import Given
from uatmc_jax.auditing.run import REPORT_FILE, run_audit
from uatmc_jax.errors import CollapsedError, InputError
from uatmc_jax.opened import open_run
from uatmc_jax.report.audit import format_page
from uatmc_jax.settings import AuditSettings, from_values

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> & \"quoted\" 'name'"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """(folder of the data, workdir, what the audit measured)."""
    parent = tmp_path_factory.mktemp("audit")
    folder = small_folder(parent)
    titles = "".join(f"{item},Spoon {item}\n" for item in range(0, 60, 2))
    (folder / "items.csv").write_text("itemID,title\n" + titles)
    asins = "".join(f"B{item}\t{item}\n" for item in range(60))
    (folder / "i_id_mapping.csv").write_text("asin\titemID\n" + asins)
    workdir = parent / "run"
    options = {"command": "python -m x --a='b'", "show_progress": False}
    return folder, workdir, run_audit(small_audit(folder), workdir, **options)


def test_everything_is_measured_and_written(audited):
    _, workdir, audit = audited
    written = store.read_json(workdir / "audit.json")
    assert written == json.loads(json.dumps(audit))
    assert [entry["name"] for entry in audit["entries"]] == ["victim", "exact_05", "trained_on"]
    for entry in audit["entries"]:
        suite = entry["verdict"]["suite"][f"hr@{K}"]
        assert 0 <= suite["before"]["value"] <= suite["after"]["value"] <= 1
        assert suite["after"]["value"] <= suite["budget_certificate"]["value"]
        low, high = entry["recall"]["test"]["over_users"]
        assert low <= entry["recall"]["test"]["value"] <= high
        assert set(entry["verdict"]["members"]) == {"fgsm", "pgd"}
        assert "raw_pgd" in entry["other_threats"] and len(entry["rows"]) == 10
    rows = audit["entries"][0]["rows"]
    for row in rows:
        item = row["item"]
        assert row["name"] == (f"B{item}" if item % 2 else f"Spoon {item}")
        assert row["shop_id"] == f"B{item}"
        assert row["title"] == (None if item % 2 else f"Spoon {item}")
    assert len({row["item"] % 2 for row in rows}) == 2


def test_what_is_certified_at_large_is_what_is_certified_of_each_target(audited):
    victim = audited[2]["entries"][0]
    bound = dict(zip(victim["survey"]["items"], victim["survey"]["bound"], strict=True))
    shown = dict(zip(victim["survey"]["items"], victim["survey"]["shown"], strict=True))
    assert len(bound) == 60
    for row in victim["rows"]:
        assert bound[row["item"]] == row["budget_certificate"][str(K)]
        assert shown[row["item"]] == pytest.approx(row["hr_before"][str(K)], abs=1e-6)


def test_the_users_counted_are_those_the_rows_speak_of(audited):
    victim = audited[2]["entries"][0]
    reached = victim["users_reached"]
    counts = np.array(reached["histogram_after"])
    assert counts.sum() == victim["attacked_users"]
    member = victim["verdict"]["members"][reached["attack"]]["after"]["value"]
    mean = (counts * np.arange(len(counts))).sum() / counts.sum() / reached["targets"]
    assert mean == pytest.approx(member, abs=1e-6)
    groups = reached["by_activity"]
    assert sum(group["users"] for group in groups) == victim["attacked_users"]
    whole = sum(group["users"] * group["after"] for group in groups) / victim["attacked_users"]
    assert whole == pytest.approx(member, abs=1e-6)


def test_the_same_call_computes_nothing_again(audited, monkeypatch):
    folder, workdir, audit = audited

    def no_more(*_, **__):
        raise AssertionError("an attack or a training was made again")

    monkeypatch.setattr("uatmc_jax.benchmark.run._attack_rows", no_more)
    monkeypatch.setattr("uatmc_jax.training.run.run_stage", no_more)
    monkeypatch.setattr("uatmc_jax.training.vmapped._train_chunk", no_more)
    again = run_audit(small_audit(folder), workdir, show_progress=False)
    for name in ("entries", "candidates", "recommended"):
        assert json.dumps(again[name]) == json.dumps(audit[name])


def test_perturbations_that_are_not_there_are_made_again(audited, tmp_path):
    """As after attacks by a version that left none."""
    folder, workdir, audit = audited
    shutil.copytree(workdir, tmp_path / "run")
    kept = list((tmp_path / "run").rglob("attacks/*.npz"))
    assert len(kept) == 12  # three attacks and the use of content of each
    for file in kept:
        file.unlink()
    again = run_audit(small_audit(folder), tmp_path / "run", show_progress=False)
    for one, before in zip(again["entries"], audit["entries"], strict=True):
        assert one.get("users_reached") == before.get("users_reached")


def test_a_checkpoint_is_opened_and_its_content_projected_once(audited, monkeypatch):
    folder, workdir, _ = audited
    opened, projected = [], []
    restore, project = checkpoint.restore, opened_module.project_catalogue

    def restoring(folder, *which):
        opened.append((pathlib.Path(folder).name, *which))
        return restore(folder, *which)

    def projecting(model, params, features):
        projected.append(checkpoint.digest(params))
        return project(model, params, features)

    monkeypatch.setattr(checkpoint, "restore", restoring)
    for module in ("opened", "attacks.victim", "training.stages", "training.vmapped"):
        monkeypatch.setattr(f"uatmc_jax.{module}.project_catalogue", projecting)
    run_audit(small_audit(folder), workdir, show_progress=False)
    assert len(opened) == len(set(opened)) == 3 == len(projected) == len(set(projected))


def test_what_collapses_is_left_out_and_said(audited, tmp_path, monkeypatch):
    """A candidate, and one of those hardened together; the others are audited."""
    folder, workdir, _ = audited
    shutil.copytree(workdir, tmp_path / "run")
    settings = small_audit(folder)
    train = entries_module.train_and_evaluate
    hardened = entries_module.train_vmapped

    def collapses(one, where, **options):
        if where.name == "other":
            raise CollapsedError("stage pretrain, epoch 5: collapsed.")
        return train(one, where, **options)

    def member_collapses(group, *arguments, **options):
        if "exact_05" in group:
            raise CollapsedError("member 'exact_05': collapsed.", member="exact_05")
        return hardened(group, *arguments, **options)

    monkeypatch.setattr(entries_module, "train_and_evaluate", collapses)
    monkeypatch.setattr(entries_module, "train_vmapped", member_collapses)
    victims = dict(settings.victims) | {"other": {"mu": 9.0}}
    audit = run_audit(
        dataclasses.replace(settings, victims=victims), tmp_path / "run", show_progress=False
    )
    assert set(audit["collapsed"]) == {"other", "exact_05"} and "other" not in audit["candidates"]
    assert [entry["name"] for entry in audit["entries"]] == ["victim", "trained_on"]
    assert any("exact_05 is not here" in text for text in audit["warnings"])
    page = (tmp_path / "run" / REPORT_FILE).read_text(encoding="utf-8")
    assert "stage pretrain, epoch 5: collapsed." in page
    tried = json.loads((tmp_path / "run" / "hardened" / "mu_0.1" / "collapsed.json").read_text())
    assert "exact_05" in tried


def test_where_one_collapses_all_are_hardened_anew_with_less_of_mu(audited, tmp_path, monkeypatch):
    folder, workdir, before = audited
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "hardened")
    mu = before["settings"]["victims"]["free"]["mu"]
    hardened, asked = entries_module.train_vmapped, []

    def collapses_at_first(group, *arguments, **options):
        (found,) = {one.adversarial.mu for one in group.values()}
        asked.append(found)
        if found == mu:
            raise CollapsedError("it shrank", member=next(iter(group)))
        return hardened(group, *arguments, **options)

    monkeypatch.setattr(entries_module, "train_vmapped", collapses_at_first)
    audit = run_audit(small_audit(folder), tmp_path / "run", show_progress=False)
    assert [entry["name"] for entry in audit["entries"]] == ["victim", "exact_05", "trained_on"]
    chosen = [e["adversarial"]["mu"] for e in audit["entries"][1:]]
    assert chosen == pytest.approx([mu / 10] * 2)
    assert audit["collapsed"] == {}
    assert any(f"hardened with mu {mu / 10:.3g}" in note for note in audit["fitted"])
    assert asked == pytest.approx([mu, mu / 10, mu / 10])
    asked.clear()
    run_audit(small_audit(folder), tmp_path / "run", show_progress=False)
    assert asked == pytest.approx([mu / 10, mu / 10])  # and nothing of it is done again


def test_a_trained_model_is_audited_in_its_own_right(audited, tmp_path):
    folder, workdir, audit = audited
    copied = tmp_path / "free"
    shutil.copytree(workdir / "victims" / "free", copied, ignore=lambda *_: {"attacks"})
    given = Given(copied, "pretrain/best")
    settings = small_audit(folder, harden={})
    found = run_audit(settings, tmp_path / "given", given=given, show_progress=False)
    assert found["candidates"] == {} and found["recommended"] is None
    assert "victims" not in found["settings"]
    (victim,), (first, *_) = found["entries"], audit["entries"]
    assert victim["checkpoint"]["parameters"] == first["checkpoint"]["parameters"]
    for name in ("suite", "wins"):
        assert victim["verdict"][name] == first["verdict"][name]
    assert list((copied / "attacks").glob("*.json"))
    stage = found["settings"]["experiment"]["pretrain"]
    assert stage == json.loads((copied / "config.json").read_text())["pretrain"]


def test_a_hardened_model_is_audited_and_hardened_from_where_it_came(audited, tmp_path):
    folder, workdir, audit = audited
    given = Given(workdir / "hardened" / "exact_05", "adversarial/latest")
    settings = small_audit(folder, harden={"again": {"defense": "none"}})
    found = run_audit(settings, tmp_path / "other", given=given, show_progress=False)
    before = {entry["name"]: entry for entry in audit["entries"]}
    assert found["entries"][0]["recall"] == before["exact_05"]["recall"]
    # The same training as "trained_on", from the same state.
    assert found["entries"][1]["recall"] == before["trained_on"]["recall"]


def test_what_was_hardened_from_other_weights_is_not_taken_for_this(audited, tmp_path):
    folder, workdir, _ = audited
    given = Given(tmp_path / "imported", "pretrain/best")
    shutil.copytree(workdir / "victims" / "free", given.folder)
    settings = small_audit(folder, harden={"on": {"defense": "none"}})
    run_audit(settings, tmp_path / "run", given=given, show_progress=False)
    restored = checkpoint.restore(given.folder, *given.checkpoint.split("/"))
    other = jax.tree.map(lambda x: x + 0.01, restored.params)
    shutil.rmtree(given.folder / "checkpoints")
    training = {"epoch": jnp.int32(1)}
    checkpoint.save(given.folder, *given.checkpoint.split("/"), other, training, restored.meta)
    with pytest.raises(InputError, match="hardened from another state"):
        run_audit(settings, tmp_path / "run", given=given, show_progress=False)


def test_a_model_without_the_state_it_came_from_says_how_to_audit_it_alone(audited, tmp_path):
    folder, workdir, _ = audited
    given = Given(tmp_path / "alone", "adversarial/latest")
    shutil.copytree(workdir / "hardened" / "exact_05", given.folder)
    meta = checkpoint.load_meta(given.folder, *given.checkpoint.split("/"))
    restored = checkpoint.restore(given.folder, *given.checkpoint.split("/"))
    shutil.rmtree(given.folder / "checkpoints")
    meta["settings"]["pretrain"]["init_from"] = str(tmp_path / "gone")
    training = {"epoch": jnp.int32(meta["epoch"])}
    checkpoint.save(given.folder, *given.checkpoint.split("/"), restored.params, training, meta)
    with pytest.raises(InputError, match="--noharden"):
        run_audit(small_audit(folder), tmp_path / "run", given=given, show_progress=False)
    assert not (tmp_path / "run").exists()


def test_a_missing_checkpoint_names_those_there_are(audited):
    _, workdir, _ = audited
    with pytest.raises(InputError, match=r"The run has adversarial/latest\."):
        checkpoint.restore(workdir / "hardened" / "exact_05", "adversarial", "best")
    with pytest.raises(InputError, match=r"one of the runs below it: .*exact_05.*victims"):
        checkpoint.restore(workdir, "pretrain", "best")
    with pytest.raises(InputError, match="Train first"):
        checkpoint.restore(workdir / "nowhere", "pretrain", "best")


def test_against_the_victim_is_the_paired_difference_of_the_rows(audited):
    victim, *others = audited[2]["entries"]
    for other in others:
        pairs = zip(victim["rows"], other["rows"], strict=True)
        gaps = [b["hr_after"][str(K)] - a["hr_after"][str(K)] for a, b in pairs]
        assert other["against_victim"]["value"] == pytest.approx(np.mean(gaps))
        low, high = other["against_victim"]["over_targets"]
        assert low <= np.mean(gaps) <= high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.attack.update({"ks": (10, 20)}), "the suite aims at K = 30"),
        (lambda c: c.experiment.adversarial.update({"epochs": 0}), "exact_05.epochs = 0"),
        (lambda c: c.harden.exact_05.update({"epochs": 0}), "exact_05.epochs = 0"),
        (
            lambda c: c.experiment.model.update({"name": "mmgcn"}),
            r"config\.harden\.exact_05\.defense = 'exact' needs .*audit:mmgcn",
        ),
        (
            lambda c: c.attack.targets.update({"rule": "ids", "ids": ("X",)}),
            "so no names. Items go",
        ),
        (
            lambda c: c.attack.attacks.pgd.update({"modalities": ("audio",)}),
            r"config\.attack\.attacks\.",
        ),
        (lambda c: c.experiment.data.update({"root": "nowhere"}), "is not a folder"),
    ],
)
def test_mistakes_are_told_before_any_work(change, message, tmp_path):
    folder = small_folder(tmp_path)
    config = audit_config.get_config("quick")
    config.experiment.data.update({"source": "mmrec", "name": "shop", "root": str(tmp_path)})
    change(config)
    with pytest.raises(InputError, match=message):
        run_audit(from_values(AuditSettings, config), tmp_path / "run", show_progress=False)
    assert folder.is_dir() and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("file", "text"), [("items.csv", "a,b\n1\n"), ("i_id_mapping.csv", "x\n")])
def test_damaged_names_are_told_before_any_work(file, text, tmp_path):
    folder = small_folder(tmp_path)
    (folder / file).write_text(text)
    with pytest.raises(InputError, match=file):
        run_audit(small_audit(folder), tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def browser():
    """Chromium, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs Chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=flags)
        yield chromium
        chromium.close()


def look(browser, file, width, scheme="light"):
    """The open page and what went wrong while it was loaded."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url)
    )
    page.goto(pathlib.Path(file).resolve().as_uri())
    return page, wrong


@pytest.mark.extras
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_complaint_and_without_scrolling_sideways(audited, browser, width, scheme):
    page, wrong = look(browser, audited[1] / REPORT_FILE, width, scheme)
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg").count() == 6
    size = page.locator("figure svg").first.bounding_box()
    assert size["width"] > 0.7 * min(width, 560) and size["height"] > 150
    # Text stands out from the paper it is on.
    ink, paper = (
        page.evaluate(f"getComputedStyle(document.body).{name}")
        for name in ("color", "backgroundColor")
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in (ink, paper)]
    assert abs(light[0] - light[1]) > 0.7 and (light[1] > 0.5) == (scheme == "light")
    drawn = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert drawn == ink
    page.close()


@pytest.mark.extras
def test_names_of_items_are_text_and_nothing_else(audited, browser, tmp_path):
    audit = copy.deepcopy(audited[2])
    for row in audit["entries"][0]["rows"]:
        row["name"] = HOSTILE
    file = tmp_path / "hostile.html"
    file.write_text(format_page(audit), encoding="utf-8")
    page, wrong = look(browser, file, 390)
    assert wrong == []
    assert page.locator("td.name").first.inner_text() == HOSTILE
    assert page.locator("script, img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_it_needs_nothing_from_elsewhere(audited):
    text = (audited[1] / REPORT_FILE).read_text(encoding="utf-8")
    addresses = set(re.findall(r"""(?:https?:)?//[^\s"'<>)]+""", text))
    assert all("www.w3.org" in address for address in addresses)  # names of SVG, never fetched
    assert "<script" not in text and "<link" not in text.replace(
        '<link rel="icon" href="data:,">', ""
    )
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 50
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert target in ids


def test_its_numbers_are_those_measured(audited):
    audit = audited[2]
    text = format_page(audit)
    victim = audit["entries"][0]
    suite = victim["verdict"]["suite"][f"hr@{K}"]
    for value in (victim["recall"]["test"]["value"], audit["popularity"]["test"]):
        assert f"{value:.4f}" in text
    assert f"{100 * suite['after']['value']:.3f} %" in text
    assert audit["dataset"]["fingerprint"] in text
    assert "python -m x --a=&#39;b&#39;" in text
    top = max(victim["rows"], key=lambda row: row["hr_after"][str(K)])
    assert f'<td class="name">{top["name"]}</td>' in text and f"<td>{top['shop_id']}</td>" in text


def test_the_share_of_users_reached_is_said_in_words(audited):
    audit = copy.deepcopy(audited[2])
    reached = audit["entries"][0]["users_reached"]
    # Twenty users: four have an item as it is; two gain 5 of the 10, three gain 1.
    reached["histogram_before"] = [16, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    reached["histogram_gained"] = [15, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0]
    text = format_page(audit)
    assert "20.0 % of the users have at least one" in text
    assert "25.0 % can be made to see at least one" in text
    assert "account for 77 % of all that is gained" in text  # 10 of 13


def test_an_attack_that_does_not_help_is_not_called_the_strongest(audited):
    audit = copy.deepcopy(audited[2])
    row = max(audit["entries"][0]["rows"], key=lambda row: row["hr_after"][str(K)])
    assert format_page(audit).count("none helped") == sum(
        r["hr_after"][str(K)] <= r["hr_before"][str(K)] for r in audit["entries"][0]["rows"]
    )
    before = format_page(audit).count("none helped")
    row["hr_before"][str(K)] = row["hr_after"][str(K)]
    assert format_page(audit).count("none helped") == before + 1


def test_a_model_without_certificates_says_so(audited):
    audit = copy.deepcopy(audited[2])
    for entry in audit["entries"]:
        entry["certificate"] = "no certificate for lightgcn: its scores are not affine"
        for part in (entry["verdict"]["suite"][f"hr@{K}"], *entry["rows"]):
            part.pop("budget_certificate"), part.pop("any_content_certificate")
        entry["survey"] = entry["one_edit"] = None
        if "curve" in entry:
            entry["curve"]["certificate"] = None
    text = format_page(audit)
    assert "No certificate for lightgcn" in text
    assert "no attack exceeds" not in text and "<em>no</em> edit" not in text


def test_warnings_come_before_the_numbers(audited):
    audit = copy.deepcopy(audited[2])
    assert [w[:7] for w in audit["warnings"][:2]] == ["A trial", "Lists o"]
    text = format_page(audit)
    assert text.index("A trial") < text.index("How good is the recommender?")


def test_a_trial_recommends_nothing(audited):
    audit = audited[2]
    assert audit["recommended"] is None
    assert "recommends nothing" in format_page(audit)


def test_without_hardening_it_is_said_not_to_have_been_tried(audited):
    audit = copy.deepcopy(audited[2])
    audit["entries"] = audit["entries"][:1]
    text = format_page(audit)
    assert "not tried" in text and "good enough to be used" not in text


def test_the_recommended_model_is_told_from_the_others(audited):
    audit = copy.deepcopy(audited[2])
    victim, chosen, _ = audit["entries"]
    audit["recommended"], audit["settings"]["trial"] = chosen["name"], False
    chosen |= {name: victim[name] for name in ("users_reached", "survey", "curve", "one_edit")}
    chosen["adversarial"]["defense"] = "exact"
    text = format_page(audit)
    card = text[text.index("<h3>Hardened</h3>") : text.index("The size of an edit")]
    assert "exact_05" in card and "in closed form (exact), within 5 %" in card


def test_who_counts_is_said_both_ways(audited):
    """Beside the masked count, that of plain top lists of all items, owned or not."""
    entry = audited[2]["entries"][0]
    reached = entry["users_reached"]
    found = reached["counted_otherwise"]
    assert found["masked"] is False and audited[2]["settings"]["attack"]["masked"] is True
    run = open_run(entry["folder"], "pretrain/best")
    (file,) = pathlib.Path(entry["folder"]).glob(f"attacks/*-{reached['attack']}-*.npz")
    arrays, z = dict(np.load(file)), [np.asarray(x, float) for x in run.z]
    encoder, users = oracles.to_float64(run.params.encoder), np.unique(run.data.train.users)
    shares = []
    for n, target in enumerate(arrays["item"]):
        both = []
        for delta in (0.0, 1.0):
            moved = [x.copy() for x in z]
            for m, x in enumerate(moved):
                x[target] += delta * arrays[f"delta_{run.data.modalities[m]}"][n]
            user, item = oracles.vbpr(encoder, moved)
            scores = (user @ item.T)[users]
            both.append(((scores >= scores[:, [target]]).sum(axis=1) <= K).mean())
        shares.append(both)
    assert np.mean(shares, axis=0) == pytest.approx([found["before"], found["after"]], abs=2e-3)
    assert "Users who own an item already are not counted" in format_page(audited[2])


def test_how_far_z_went_is_in_every_row(audited):
    for entry in audited[2]["entries"]:
        for row in entry["rows"]:
            moved = row["moved"][str(K)]
            assert set(moved) == {"visual", "textual"}
            for way in moved.values():
                # Within linf of 10 % of the length in each of 8 coordinates.
                assert 0 <= way["length"] <= 0.1 * 8**0.5 + 1e-6
                assert 1 - way["length"] <= way["cosine"] + 0.05 <= 1.051
        mean = np.mean([row["moved"][str(K)]["visual"]["length"] for row in entry["rows"]])
        assert entry["moved"]["visual"]["length"] == pytest.approx(mean)


def test_the_curve_starts_clean_ends_with_the_attack_and_stays_below_its_bound(audited):
    victim = audited[2]["entries"][0]
    curve = victim["curve"]
    suite = victim["verdict"]["suite"][f"hr@{K}"]
    assert curve["eps"][0] == 0 and curve["eps"] == sorted(curve["eps"])
    assert curve["hr"][0] == pytest.approx(suite["before"]["value"])
    member = victim["verdict"]["members"][curve["attack"]]["after"]["value"]
    assert curve["hr"][-1] == pytest.approx(member, abs=1e-6)
    bound = victim["one_edit"]
    assert curve["certificate"][-1] == pytest.approx(bound["value"])
    assert bound["items"] == [row["item"] for row in victim["rows"]]
    for row, most in zip(victim["rows"], bound["bound"], strict=True):
        assert row["hr_after"][str(K)] <= most + 1e-6
        assert most <= row["budget_certificate"][str(K)] + 1e-6
    assert all(h <= c + 1e-9 for h, c in zip(curve["hr"], curve["certificate"], strict=True))
    assert curve["certificate"] == sorted(curve["certificate"])


def test_several_trainings_are_ranged_over(audited, tmp_path):
    folder = audited[0]
    audit = run_audit(
        small_audit(folder, trial=False), tmp_path / "run", seeds=2, show_progress=False
    )
    assert audit["seeds"] == [999, 1]
    first, second = audit["by_training"]
    assert first["seed"] == 999 and second["seed"] == 1
    for name, found in first["entries"].items():
        (entry,) = (e for e in audit["entries"] if e["name"] == name)
        assert found["recall"] == entry["recall"]["test"]["value"]
    recalls = sorted(one["entries"]["victim"]["recall"] for one in audit["by_training"])
    assert recalls[0] < recalls[1]
    text = format_page(audit)
    assert f"({recalls[0]:.4f} to {recalls[1]:.4f} over 2 trainings)" in text
    assert "seed 1: " in text
    assert "One training." not in text and "One training." in format_page(audited[2])
    with pytest.raises(InputError, match="--seeds = 0"):
        run_audit(small_audit(folder), tmp_path / "other", seeds=0, show_progress=False)
    given = Given(tmp_path / "run" / "victims" / "free", "pretrain/best")
    with pytest.raises(InputError, match="where a trained model is given"):
        run_audit(small_audit(folder), tmp_path / "other", given=given, seeds=2)
