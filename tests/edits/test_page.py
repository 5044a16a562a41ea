"""The audit's section on real files: its pictures, and a whole audit with it."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.auditing.cases import small_audit
from tests.edits import cases
from tests.edits.test_edits import patch_encoders, settings_of, shop  # noqa: F401
from uatmc_jax.auditing.edited import pictures_of
from uatmc_jax.auditing.run import REPORT_FILE, run_audit

pytestmark = pytest.mark.extras


def seen(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))).astype(int)


def test_the_difference_is_shown_as_many_times_as_it_says(tmp_path):
    original = np.array(cases.draw_picture(1).resize((80, 64)))
    moved = np.zeros(original.shape, int)
    moved[:32], moved[32:, 40:] = 4, -3
    after = np.clip(original + moved, 0, 255).astype(np.uint8)
    Image.fromarray(after).save(tmp_path / "edited.png")
    found = pictures_of(original, tmp_path, "edited.png")
    assert found["factor"] == 31
    expected = 128 + 31 * (after.astype(int) - original)
    np.testing.assert_allclose(np.median(seen(found["difference"])[:32], axis=(0, 1)), 252, atol=3)
    assert abs(seen(found["difference"]) - expected).mean() < 6  # JPEG
    assert abs(seen(found["after"]) - after).mean() < 4
    assert abs(seen(found["before"]) - original).mean() < 4


@pytest.mark.long
def test_a_whole_audit_with_edits(shop, tmp_path):  # noqa: F811
    folder, _ = shop
    chosen = dataclasses.replace(settings_of(folder), ids=(), sample=3)
    audit = run_audit(
        small_audit(folder / "shop"), tmp_path / "run", edits=chosen, show_progress=False
    )
    page = (tmp_path / "run" / REPORT_FILE).read_text()
    assert set(audit["edits"]["models"]) == {"victim"}
    assert audit["edits"]["settings"]["k"] == audit["k"] and page.count('class="edited"') == 3
    assert 'href="#edits"' in page and "http://" not in page.replace("http://www.w3.org", "")
