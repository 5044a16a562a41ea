"""A whole audit, small: what it finds and writes, that it goes on where it was, and its page.

The page is seen as a reader meets it: in a browser, on a phone and on a desk, by day and by night.
One file, because the tests share one audit.
"""

import copy
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from configs import audit as audit_config
from tests.auditing.cases import K, small_audit, small_folder
from uatmc_jax.auditing.run import REPORT_FILE, Given, read_audit, recommend, run_audit
from uatmc_jax.errors import InputError
from uatmc_jax.report.audit import format_page
from uatmc_jax.settings import AuditSettings, from_values

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> & \"quoted\" 'name'"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """(folder of the data, workdir, what the audit measured)."""
    parent = tmp_path_factory.mktemp("audit")
    folder = small_folder(parent)
    (folder / "items.csv").write_text("itemID,title\n0,Spoon\n1,<script>alert(1)</script>\n")
    workdir = parent / "run"
    options = {"command": "python -m x --a='b'", "show_progress": False}
    return folder, workdir, run_audit(small_audit(folder), workdir, **options)


def test_everything_is_measured_and_written(audited):
    _, workdir, audit = audited
    assert read_audit(workdir) == json.loads(json.dumps(audit))
    assert [entry["name"] for entry in audit["entries"]] == ["victim", "exact_05", "trained_on"]
    for entry in audit["entries"]:
        suite = entry["verdict"]["suite"][f"hr@{K}"]
        assert 0 <= suite["before"]["value"] <= suite["after"]["value"] <= 1
        assert suite["after"]["value"] <= suite["budget_certificate"]["value"]
        low, high = entry["recall"]["test"]["over_users"]
        assert low <= entry["recall"]["test"]["value"] <= high
        assert set(entry["verdict"]["members"]) == {"fgsm", "pgd"}
        assert "raw_pgd" in entry["beside"] and len(entry["rows"]) == 10
    assert {row["name"] for row in audit["entries"][0]["rows"]} <= {
        None,
        "Spoon",
        "<script>alert(1)</script>",
    }


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
        raise AssertionError("an attack was made again")

    monkeypatch.setattr("uatmc_jax.attacks.run.attack_targets", no_more)
    again = run_audit(small_audit(folder), workdir, show_progress=False)
    for name in ("entries", "candidates", "recommended"):
        assert json.dumps(again[name]) == json.dumps(audit[name])


def test_a_trained_model_is_audited_in_its_own_right(audited):
    folder, workdir, audit = audited
    given = Given(workdir / "victims" / "light", "pretrain", "best")
    settings = small_audit(folder, harden={})
    found = run_audit(settings, workdir.parent / "given", given=given, show_progress=False)
    assert found["candidates"] == {} and found["recommended"] is None
    (victim,) = found["entries"]
    assert victim["checkpoint"]["parameters"] == audit["entries"][0]["checkpoint"]["parameters"]
    assert victim["verdict"]["suite"] == audit["entries"][0]["verdict"]["suite"]


def test_a_hardened_checkpoint_is_audited_without_a_pre_trained_state_of_its_own(audited):
    folder, workdir, audit = audited
    given = Given(workdir / "hardened" / "exact_05", "adversarial", "latest")
    settings = small_audit(folder, harden={})
    found = run_audit(settings, workdir.parent / "other", given=given, show_progress=False)
    entry = next(e for e in audit["entries"] if e["name"] == "exact_05")
    assert found["entries"][0]["recall"] == entry["recall"]


def entry(name, recall, content, after, defense="exact"):
    return {
        "name": name,
        "defense": defense,
        "recall": {"valid": {"value": recall}},
        "content": {"content_utility": content},
        "verdict": {"suite": {"hr@50": {"after": {"value": after}}}},
    }


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([entry("a", 0.099, 0.05, 0.1), entry("b", 0.098, 0.05, 0.05)], "b"),
        ([entry("a", 0.099, 0.05, 0.1), entry("weak", 0.080, 0.05, 0.01)], "a"),
        ([entry("a", 0.099, 0.05, 0.1), entry("blind", 0.099, 0.01, 0.01)], "a"),
        ([entry("control", 0.12, 0.09, 0.01, defense="none")], None),
        ([entry("worse", 0.11, 0.09, 0.3)], None),
        ([], None),
    ],
)
def test_recommended_is_the_hardest_to_fool_of_those_good_enough(others, expected):
    victim = entry("victim", 0.1, 0.06, 0.2, defense=None)
    assert recommend([victim, *others], 0.95, 0.5, 50) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.attack.update({"ks": (10, 20)}), "the suite aims at K = 50"),
        (lambda c: c.attack.update({"ks": (50, 61)}), "K = 61 exceeds the 60 items"),
        (lambda c: c.experiment.eval.update({"ks": (20, 61)}), "K = 61 exceeds the 60"),
        (lambda c: c.experiment.adversarial.update({"epochs": 0}), "cannot be trained"),
        (lambda c: c.experiment.model.update({"name": "mmgcn"}), "needs scores that are affine"),
        (lambda c: c.attack.targets.update({"rule": "ids", "ids": ("X",)}), "items have no names"),
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


def test_an_audit_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"audit\.json: no such file"):
        read_audit(tmp_path)


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


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_complaint_and_without_scrolling_sideways(audited, browser, width, scheme):
    page, wrong = look(browser, audited[1] / REPORT_FILE, width, scheme)
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg").count() == 5
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
    assert f'<td class="name">{top["name"] or "item " + str(top["item"])}</td>' in text


def test_a_model_without_certificates_says_so(audited):
    audit = copy.deepcopy(audited[2])
    for entry in audit["entries"]:
        entry["certificate"] = "no certificate for lightgcn: its scores are not affine"
        for part in (entry["verdict"]["suite"][f"hr@{K}"], *entry["rows"]):
            part.pop("budget_certificate"), part.pop("any_content_certificate")
        entry["survey"] = None
    text = format_page(audit)
    assert "No certificate for lightgcn" in text and "no attack exceeds" not in text


def test_warnings_come_before_the_numbers(audited):
    audit = copy.deepcopy(audited[2])
    audit["popularity"]["test"] = 0.9
    audit["entries"][0]["content"]["content_utility"] = -0.001
    text = format_page(audit)
    assert "no better than recommending what is popular" in text
    assert "does not profit from pictures and texts" in text
    assert text.index("no better than") < text.index("How good is the recommender?")
