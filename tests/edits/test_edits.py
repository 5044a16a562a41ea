"""From pixels and words to the lists: the bridge's gradients, and what the saved files do."""

import json
import pathlib
import re
import shutil

import jinja2
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="edits follow an encoder's derivative (extra edits)")

from tests.auditing.cases import small_audit  # noqa: E402
from tests.edits import cases  # noqa: E402
from uatmc_jax.attacks import Lists, make_victim  # noqa: E402
from uatmc_jax.auditing.edited import edit_items  # noqa: E402
from uatmc_jax.auditing.entries import Entry  # noqa: E402
from uatmc_jax.auditing.run import run_audit  # noqa: E402
from uatmc_jax.edits import EditSettings, WordSearch, format_edits, harmless, run_edits  # noqa: E402
from uatmc_jax.edits.bridge import (  # noqa: E402
    Beside,
    Coder,
    cotangent_of,
    picture_look,
    views_of,
)
from uatmc_jax.edits.judge import make_judge  # noqa: E402
from uatmc_jax.edits.run import open_sources  # noqa: E402
from uatmc_jax.edits.search import COORDINATED  # noqa: E402
from uatmc_jax.errors import InputError  # noqa: E402
from uatmc_jax.preparation import encoders, lite  # noqa: E402
from uatmc_jax.report.audit.edits import edits_section  # noqa: E402
from uatmc_jax.report.text import percent  # noqa: E402

pytestmark = pytest.mark.extras

K = 5


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """(folder, run) of the tiny shop."""
    folder = tmp_path_factory.mktemp("shop")
    cases.write_sources(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch_encoders(patch)
        yield folder, cases.make_run(folder)


def patch_encoders(patch):
    patch.setattr(encoders, "text_encoder", cases.text_encoder)
    patch.setattr(encoders, "image_encoder", cases.image_encoder)


def settings_of(folder, **changes):
    chosen = {
        "images": folder / "photos", "items": folder / "items.csv", "ids": ("p3", "p8"), "k": K,
        "radii": (4.0, 16.0), "steps": 6, "words": WordSearch(2, 2, 8), "word_similarity": -1.0,
        "yardstick": 3,
    }  # fmt: skip
    return EditSettings(**chosen | changes)


@pytest.fixture(scope="module")
def result(shop):
    folder, run = shop
    return run_edits(settings_of(folder), run, show_progress=False)


def judge_of(run, item=3):
    victim = make_victim(run.model, run.params, run.data, z=run.z, lists=Lists(k=K))
    return make_judge(victim, item, K)


def phi(judge, place, feature):
    rows = [np.asarray(x) for x in judge.raw]
    rows[place] = np.asarray(feature, np.float32)[None]
    return float(judge.rows(rows).value[0])


@pytest.mark.parametrize("place", [0, 1])
def test_the_cotangent_is_the_finite_difference(shop, place):
    judge = judge_of(shop[1])
    raw = np.asarray(judge.raw[place])[0]
    beside = Beside(judge, judge.raw)
    cotangent = cotangent_of(beside, place)(torch.from_numpy(raw.copy())[None])[0]
    for n, slope in enumerate(cotangent.numpy()):
        step = 0.001 * np.eye(len(raw), dtype=np.float32)[n]
        difference = (phi(judge, place, raw + step) - phi(judge, place, raw - step)) / 0.002
        allowed = 0.03 * float(np.abs(cotangent.numpy()).max()) + 1e-5
        assert float(slope) == pytest.approx(difference, abs=allowed)


def test_the_slope_by_pixel_is_the_finite_difference(shop):
    judge = judge_of(shop[1])
    encoder = cases.image_encoder("tiny", 4)
    picture = np.array(cases.draw_picture(3))
    look = picture_look([Beside(judge, judge.raw)], Coder(0, encoder, encoder.twin()))
    (seen,) = look([picture], 1.0)
    direction = np.random.default_rng(0).normal(size=picture.shape).astype(np.float32)
    ends = [phi(judge, 0, encoder.encode([picture + sign * direction])[0]) for sign in (1.0, -1.0)]
    slope = float(np.sum(seen.slope * direction))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2, rel=0.05, abs=1e-5)
    assert seen.value == pytest.approx(phi(judge, 0, encoder.encode([picture])[0]), abs=1e-6)


def test_what_a_robust_search_looks_at_is_what_a_page_does(shop):
    picture = np.array(cases.draw_picture(3))
    leaf = lite.as_tensor(picture).requires_grad_(True)
    views = views_of(leaf)
    for view, change in zip(views[1:], harmless.AFTERWARDS.values(), strict=True):
        shown = view.detach()[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(
            np.clip(shown, 0, 255), change(picture), atol=2.5
        )  # rounded twice
    views[1].sum().backward()
    assert (leaf.grad == 1).all()  # JPEG, straight through
    judge, encoder = judge_of(shop[1]), cases.image_encoder("tiny", 4)
    look = picture_look([Beside(judge, judge.raw)], Coder(0, encoder, encoder.twin()), True)
    (seen,) = look([picture], 1.0)
    each = [
        phi(judge, 0, encoder.encode([view.detach()[0].permute(1, 2, 0).numpy()])[0])
        for view in views
    ]
    assert seen.value == pytest.approx(np.mean(each), abs=1e-6)


def hit_rate(run, item, rows):
    """By NumPy: all scores with the item's content replaced, ties against it."""
    features = [np.array(x) for x in run.data.features]
    for matrix, row in zip(features, rows, strict=True):
        matrix[item] = row
    z = run.model.project(run.params.projectors, tuple(features))
    user, embedded = run.model.encode(run.params.encoder, z, None)
    users = np.unique(run.data.train.users)
    scores = np.asarray(user, np.float64)[users] @ np.asarray(embedded, np.float64).T
    others = np.delete(scores, item, axis=1)
    return np.mean((others >= scores[:, [item]]).sum(axis=1) < K)


def test_the_saved_files_encoded_without_this_package_give_the_hit_rate(shop, result):
    folder, run = shop
    texts = {}
    for line in (folder / "items.csv").read_text().splitlines()[1:]:
        name, title, *_ = line.replace('"', "").split(",")
        texts[name] = (title, line.split(",")[-1])
    for row in result["rows"]:
        item = row["item"]
        stored = [x[item] for x in run.data.features]
        assert row["hr_before"] == pytest.approx(hit_rate(run, item, stored))
        for edit in row["edits"]:
            rows, files = list(stored), edit["files"]
            where = f"{result['folder']}/{item}"
            if "image" in files:
                with Image.open(f"{where}/{files['image']}") as image:
                    planes = [
                        np.array(plane.convert("F").resize((6, 6), Image.Resampling.BICUBIC))
                        for plane in image.convert("RGB").split()
                    ]
                small = (np.stack(planes).reshape(-1) - 127) / 128
                rows[0] = np.tanh(small @ cases._drawn(1, 108, cases.DIM).numpy())
            if "text" in files:
                with open(f"{where}/{files['text']}") as file:
                    title = file.read().strip()
                rows[1] = cases.encode_texts([f"{title} {edit_rest(folder, row['id'])}"])[0]
            assert edit["hr"] == pytest.approx(hit_rate(run, item, rows)), edit["edit"]


def edit_rest(folder, name):
    """What stands behind the title in the whole text."""
    line = next(x for x in (folder / "items.csv").read_text().splitlines() if x.startswith(name))
    return line.rpartition(",")[2]


def test_nothing_is_worse_with_more_and_coordination_is_never_below_either_alone(result):
    for row in result["rows"]:
        by_name = {edit["edit"]: edit["hr"] for edit in row["edits"]}
        assert by_name["pixels 4/255"] <= by_name["pixels 16/255"]
        assert by_name["pixels 4/255"] >= row["hr_before"]
        assert by_name[COORDINATED] == max(by_name.values())
        for edit in row["edits"]:
            assert set(edit["afterwards"]) if "afterwards" in edit else "image" not in edit["files"]
            for norm, bound in edit["certificate"].items():
                assert edit["hr"] <= bound + 1e-6, (edit["edit"], norm)
            assert edit["outside"] == {n: r > 0.1 for n, r in edit["radius"].items()}
            if "new_words" in edit:
                assert len(edit["new_words"]) <= 2


def test_edits_keep_to_their_budgets_and_say_so(result, shop):
    for row in result["rows"]:
        for edit in row["edits"]:
            if "image" in edit["files"]:
                file = f"{result['folder']}/{row['item']}/{edit['files']['image']}"
                original = np.array(cases.draw_picture(int(row["id"][1:]))).astype(int)
                moved = np.abs(np.array(Image.open(file)).astype(int) - original).max()
                assert moved == edit["linf"] <= (4 if edit["edit"] == "pixels 4/255" else 16)
    table = format_edits(result)
    assert "before" in table and "coordinated" in table and "5 % cropped" in table
    assert "sentence_encoder" in result["constraints"]


def test_what_is_done_is_not_done_again(result, shop, monkeypatch):
    folder, run = shop
    monkeypatch.setattr("uatmc_jax.edits.run.edit_targets", None)
    again = run_edits(settings_of(folder), run, show_progress=False)
    assert json.dumps(again["rows"]) == json.dumps(result["rows"])


def test_what_an_earlier_version_has_done_is_gone_on_with(result, shop, tmp_path, monkeypatch):
    """Its rows had PGD on z by norm, in place of whatever edits are held against."""
    folder, run = shop
    place = pathlib.Path(result["folder"])
    old = tmp_path / "run" / place.parent.name / place.name
    shutil.copytree(place, old)
    rows = []
    for row in result["rows"]:
        l2, linf = row["against"].values()
        kept = {name: value for name, value in row.items() if name != "against"}
        rows.append(json.dumps(kept | {"pgd_on_z": {"l2": l2, "linf": linf}}))
    (old / "rows.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr("uatmc_jax.edits.run.edit_targets", None)
    moved = run._replace(folder=tmp_path / "run")
    again = run_edits(settings_of(folder), moved, show_progress=False)
    assert again["summary"] == result["summary"] and again["folder"] == str(old)


def test_what_does_not_give_the_stored_features_is_refused(shop, tmp_path):
    folder, run = shop
    (tmp_path / "photos").mkdir()
    for file in (folder / "photos").iterdir():
        (tmp_path / "photos" / file.name).write_bytes(file.read_bytes())
    cases.draw_picture(99).save(tmp_path / "photos" / "p3.png")
    with pytest.raises(InputError, match=r"item 'p3': its image encoded again is .* away"):
        run_edits(settings_of(folder, images=tmp_path / "photos"), run, show_progress=False)
    (tmp_path / "photos" / "p3.png").unlink()
    with pytest.raises(InputError, match="item 'p3': no picture"):
        run_edits(settings_of(folder, images=tmp_path / "photos"), run, show_progress=False)
    with pytest.raises(InputError, match="--column size: not one of those"):
        run_edits(settings_of(folder, column="size"), run, show_progress=False)


def test_another_encoder_than_the_recorded_one_is_refused(shop, monkeypatch):
    folder, run = shop
    other = lambda name, size: cases.image_encoder(name, size)._replace(  # noqa: E731
        recipe={"weights_sha256": "of seed 7"}
    )
    monkeypatch.setattr(encoders, "image_encoder", other)
    with pytest.raises(InputError, match=r"image encoder tiny: is not the one .*weights_sha256"):
        run_edits(settings_of(folder), run, show_progress=False)
    plain = lambda name, size: cases.image_encoder(name, size)._replace(twin=None)  # noqa: E731
    monkeypatch.setattr(encoders, "image_encoder", plain)
    with pytest.raises(InputError, match="has no derivative here"):
        run_edits(settings_of(folder), run, show_progress=False)


def test_the_recipe_is_in_the_manifest(shop):
    manifest = json.loads((shop[0] / "shop" / "manifest.json").read_text())
    assert manifest["features"]["image"]["recipe"] == {"weights_sha256": "of seed 1"}
    assert manifest["features"]["text"]["text"]["columns"] == ["title", "description"]


def test_shrinking_is_pillows():
    picture = np.array(cases.draw_picture(1))
    small = lite.shrink(lite.as_tensor(picture), 7)[0].numpy()
    for plane, found in zip(Image.fromarray(picture).split(), small, strict=True):
        expected = plane.convert("F").resize((7, 7), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(found, np.array(expected), atol=2e-3)


@pytest.mark.parametrize("without", ["images", "items"])
def test_one_kind_alone(shop, without):
    folder, run = shop
    changes = {without: None, "ids": ("p3",), "steps": 1, "radii": (4.0,), "yardstick": 1}
    changes |= {"robust": True, "search": "apgd"}
    found = run_edits(settings_of(folder, **changes), run, show_progress=False)
    names = [edit["edit"] for edit in found["rows"][0]["edits"]]
    words = ["words by substitution", "words by insertion"]
    assert names == (words if without == "images" else ["pixels 4/255"])
    assert list(found["harmless"]) == ["text" if without == "images" else "image"]
    assert all(name in format_edits(found) for name in names)


@pytest.fixture(scope="module")
def edited(shop, result):
    folder, run = shop
    chosen = settings_of(folder)
    sources = open_sources(chosen, run.data, run.settings.data)
    return edit_items([Entry("victim", run), Entry("exact", run)], sources, False)


def rendered(edited):
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("uatmc_jax.report.audit", "."), autoescape=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    section = edits_section({"edits": edited})
    return environment.get_template("edits.html").render(edits=section, percent=percent)


def test_the_section_says_what_was_measured(edited):
    page, model = rendered(edited), edited["models"]["victim"]
    text = re.sub(r"<[^>]*>", "", page)
    for row in model["rows"]:
        last = row["edits"][-1]
        ends = [round(hr * model["users"]) for hr in (row["hr_before"], last["hr"])]
        assert f"{row['id']}: {ends[0]} → {ends[1]} users" in text
        unit = model["harmless"]["text"]["'new' added"]["l2"]["median"]
        if "text" in last["moved"]:
            often = last["moved"]["text"]["l2"] / unit
            assert f"{often:.{0 if often >= 10 else 1}f} times what adding “new” does" in text
        for word in last.get("new_words", []):
            assert f"<mark>{word}</mark>" in page
        if "title" in last:
            assert last["title"] in text
    assert page.count("Outside the certificate") == sum(
        any(row["edits"][-1]["outside"].values()) for row in model["rows"]
    )
    assert page.count("<img") == 3 * len(model["rows"]) and "HR@5, exact" in page
    assert edits_section({}) is None


def test_a_title_is_no_markup(edited):
    for row in edited["models"]["victim"]["rows"]:
        assert row["edits"][-1]["edit"] == "coordinated"
    hostile = "<script>alert(1)</script>"
    rows = [row | {"title": hostile, "id": hostile} for row in edited["models"]["victim"]["rows"]]
    models = {"victim": edited["models"]["victim"] | {"rows": rows}}
    assert "<script" not in rendered(edited | {"models": models})


def test_what_cannot_be_edited_is_refused_before_any_work(shop, tmp_path, monkeypatch):
    folder, _ = shop
    chosen = settings_of(folder, images=folder / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        run_audit(small_audit(folder / "shop"), tmp_path / "run", edits=chosen)
    monkeypatch.setattr("uatmc_jax.edits.listings.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'uatmc_jax\[edits\]'"):
        run_audit(small_audit(folder / "shop"), tmp_path / "run", edits=settings_of(folder))
    assert not (tmp_path / "run").exists()
