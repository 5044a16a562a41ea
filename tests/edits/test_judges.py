"""Edits against models that read pictures and texts through lists of neighbours, as FREEDOM."""

import jax
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="edits follow an encoder's derivative (extra edits)")

from tests.edits import cases  # noqa: E402
from tests.edits.test_edits import edit_rest, rendered, settings_of  # noqa: E402
from tests.edits.test_edits import shop as vbpr_shop  # noqa: E402, F401
from uatmc_jax.attacks import Lists, make_victim, served  # noqa: E402
from uatmc_jax.attacks.soft_lists import list_utility  # noqa: E402
from uatmc_jax.auditing.edited import edit_items  # noqa: E402
from uatmc_jax.auditing.entries import Entry  # noqa: E402
from uatmc_jax.edits import format_edits, open_sources, run_edits  # noqa: E402
from uatmc_jax.edits.judge import NARROW  # noqa: E402
from uatmc_jax.edits.judges import open_judges, require_judge  # noqa: E402
from uatmc_jax.edits.search import COORDINATED  # noqa: E402
from uatmc_jax.errors import InputError  # noqa: E402
from uatmc_jax.models import BM3Settings, FREEDOMSettings, MGCNSettings, MMGCNSettings  # noqa: E402
from uatmc_jax.models.registry import build_model  # noqa: E402

pytestmark = pytest.mark.extras

K = 5
FREEDOM = FREEDOMSettings(dim=4, n_neighbours=4)


@pytest.fixture(scope="module")
def shop(vbpr_shop):  # noqa: F811
    """(folder, run) of the tiny shop."""
    folder, _ = vbpr_shop
    return folder, cases.run_of(folder, FREEDOM)


@pytest.fixture(scope="module", params=["own_row", "full"])
def result(shop, request):
    folder, run = shop
    return run_edits(
        settings_of(folder, serving=request.param, radii=(8.0, 64.0)), run, show_progress=False
    )


def victim_of(run):
    return make_victim(run.model, run.params, run.data, z=run.z, lists=Lists(k=K))


def rebuilt_rate(victim, item, rows, policy):
    """Everything made anew of the features; by NumPy, ties against the item."""
    user, table = (np.asarray(x, np.float64) for x in served(victim, item, rows, policy))
    scores = user @ table.T
    others = np.delete(scores, item, axis=1)
    return np.mean((others >= scores[:, [item]]).sum(axis=1) < K)


def features_of(folder, result, row, edit, run):
    """Of the saved files, encoded without `edits`."""
    rows = [np.array(x[row["item"]]) for x in run.data.features]
    where = f"{result['folder']}/{row['item']}"
    if "image" in edit["files"]:
        with Image.open(f"{where}/{edit['files']['image']}") as image:
            rows[0] = cases.image_encoder("tiny", 4).encode([np.array(image.convert("RGB"))])[0]
    if "text" in edit["files"]:
        with open(f"{where}/{edit['files']['text']}") as file:
            title = file.read().strip()
        rows[1] = cases.encode_texts([f"{title} {edit_rest(folder, row['id'])}"])[0]
    return tuple(np.asarray(x, np.float32) for x in rows)


def test_the_saved_files_give_the_hit_rate_with_everything_rebuilt(shop, result):
    folder, run = shop
    victim, policy = victim_of(run), result["serving"]
    moved = set()
    for row in result["rows"]:
        for edit in row["edits"]:
            rows = features_of(folder, result, row, edit, run)
            expected = rebuilt_rate(victim, row["item"], rows, policy)
            assert edit["hr"] == pytest.approx(expected), edit["edit"]
            moved.add(edit["hr"] != row["hr_before"])
    assert True in moved


def test_nothing_is_worse_with_more_and_bounds_are_kept(result):
    for row in result["rows"]:
        by_name = {edit["edit"]: edit["hr"] for edit in row["edits"]}
        assert row["hr_before"] <= by_name["pixels 8/255"] <= by_name["pixels 64/255"]
        assert by_name[COORDINATED] == max(by_name.values())
        assert list(row["against"]) == [
            "copying raw features, 10 %",
            "copying raw features, whole",
        ]
        for edit in row["edits"]:
            assert list(edit["radius"]) == ["raw"]
            for bound in edit["certificate"].values():
                assert edit["hr"] <= bound + 1e-6
            bounded = result["serving"] == "own_row"
            assert bool(edit["certificate"]) == bounded
    assert "copying raw features, whole" in format_edits(result)


@pytest.mark.parametrize("place", [0, 1])
def test_the_slope_is_the_finite_difference(shop, place):
    judge = open_judges(victim_of(shop[1]), K, "full")(3)
    _, slopes = judge.slopes(judge.raw, 1.0)  # soft enough for a difference
    direction = np.random.default_rng(place).normal(size=judge.raw[place].shape)
    aim, tau = judge.slopes.args[0], 0.1

    def value(step):
        rows = [np.asarray(x)[0] for x in judge.raw]
        rows[place] = rows[place] + step * direction[0].astype(np.float32)
        return float(jax.jit(list_utility)(aim, None, tuple(rows), tau)[0])

    difference = (value(1e-2) - value(-1e-2)) / 2e-2
    assert float(np.sum(slopes[place] * direction)) == pytest.approx(difference, rel=0.05, abs=1e-4)


@pytest.mark.parametrize("policy", ["own_row", "full"])
def test_what_a_search_looks_at_is_what_decides_however_wide_it_looks(shop, policy):
    victim = victim_of(shop[1])
    judge, moved = open_judges(victim, K, policy)(3), np.random.default_rng(5)
    features = [
        np.asarray(x) + moved.normal(size=(12, x.shape[1])).astype(np.float32) for x in judge.raw
    ]
    decided = judge.rows(features)
    for width in (1.0, NARROW):
        found, _ = judge.slopes(features, width)
        np.testing.assert_array_equal(found.hr, decided.hr)
        np.testing.assert_array_equal(found.value, decided.value)
    rates = [rebuilt_rate(victim, 3, tuple(x[n] for x in features), policy) for n in range(12)]
    np.testing.assert_allclose(decided.hr, rates, atol=1e-9)


@pytest.mark.parametrize("policy", ["own_row", "full"])
def test_the_page_says_what_was_measured_of(shop, policy, tmp_path):
    folder, run = shop
    chosen = settings_of(folder, serving=policy, ids=("p3",), steps=2, radii=(8.0,))
    run = run._replace(folder=tmp_path)
    sources = open_sources(chosen, run.data, run.settings.data)
    page = rendered(edit_items([Entry("victim", run)], sources, False))
    assert "of the raw features (raw)" in page and " of z" not in page
    assert "copying raw features, whole" in page


def test_where_an_edit_does_nothing_or_is_not_known_whole_is_said_at_once(shop, monkeypatch):
    folder, run = shop
    sizes = run.data.sizes
    monkeypatch.setattr("uatmc_jax.edits.run.open_sources", None)  # nothing is opened
    with pytest.raises(InputError, match="bm3 reads no content when it serves"):
        run_edits(settings_of(folder), cases.run_of(folder, BM3Settings(dim=4)))
    with pytest.raises(InputError, match="by neighbours and projected ones beside"):
        require_judge(build_model(MGCNSettings(dim=4), sizes), "full", sizes.n_items)
    with pytest.raises(InputError, match=r"own_row.*Use 'full'"):
        require_judge(build_model(MMGCNSettings(dim=4), sizes), "own_row", sizes.n_items)
    longest = FREEDOMSettings(dim=4, n_neighbours=sizes.n_items)
    with pytest.raises(InputError, match="n_neighbours"):
        run_edits(settings_of(folder), cases.run_of(folder, longest))
    with pytest.raises(InputError, match="--serving frozen"):
        settings_of(folder, serving="frozen")
