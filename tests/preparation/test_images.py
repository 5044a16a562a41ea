"""Images of a folder: found by id or path, decoded with care, encoded by a small random model."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.preparation.sources import prepare
from uatmc_jax.data import load_dataset, load_item_names
from uatmc_jax.preparation import encoders, images
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.lines import MalformedError

Image = pytest.importorskip("PIL.Image", reason="images need the extra encoders")

COLOURS = {f"item {n}": (10 * n, 255 - 10 * n, 7 * n) for n in range(12)}


def colours(pictures):
    """(n, 3) mean colours: stands for a model."""
    return np.array([np.asarray(p, np.float32).mean(axis=(0, 1)) for p in pictures], np.float32)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Interactions of 12 items, a table of them, and a folder to put images in."""
    encoder = Encoder("colours", 3, colours, {}, 4)
    monkeypatch.setattr(encoders, "image_encoder", lambda model, batch_size: encoder)
    rows = [f"u{u},item {(u + n) % 12}\n" for u in range(9) for n in range(6)]
    (tmp_path / "clicks.csv").write_text("user,item\n" + "".join(rows))
    (tmp_path / "photos").mkdir()
    return tmp_path


def run(shop, *more):
    return prepare(
        "generic",
        "--interactions",
        shop / "clicks.csv",
        *("--user-column", "user", "--item-column", "item", "--core", "3"),
        *("--images", shop / "photos", "--image-encoder", "colours"),
        *("--out", shop / "out", *more),
    )


def paint(path, colour, size=(30, 20)):
    Image.new("RGB", size, colour).save(path)


def check(shop, present):
    names = load_item_names(shop / "out")
    features = np.load(shop / "out" / "image_feat.npy")
    expected = {name: COLOURS[name] for name in names if name in present}
    mean = np.mean(list(expected.values()), axis=0)
    for name, index in names.items():
        np.testing.assert_allclose(features[index], expected.get(name, mean), rtol=1e-4)
    load_dataset(shop / "out", "out", ("visual:image_feat.npy",))
    return json.loads((shop / "out" / "manifest.json").read_text())


def test_images_by_id(shop):
    for n, (name, colour) in enumerate(COLOURS.items()):
        if n != 4:
            paint(shop / "photos" / f"{name}.{('png', 'bmp', 'PNG', 'webp')[n % 4 % 3]}", colour)
    paint(shop / "photos" / "another.png", (0, 0, 0))
    (shop / "photos" / "item 4.txt").write_text("not an image")
    assert run(shop) == 0
    manifest = check(shop, COLOURS.keys() - {"item 4"})
    assert manifest["features"]["image"]["items without"] == 1
    assert manifest["sources"]["image features"]["records"] == 11


def test_unreadable_images_are_counted_and_stop_the_run(shop, capsys):
    for name, colour in COLOURS.items():
        paint(shop / "photos" / f"{name}.png", colour)
    broken = shop / "photos" / "item 7.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert run(shop, "--max-malformed", "0.05") == 2
    error = capsys.readouterr().err
    assert "photos: 1 of 12 records are malformed" in error and "item 7.png" in error
    assert not (shop / "out").exists()
    shutil.rmtree(shop / "out.partial")
    assert run(shop, "--max-malformed", "0.1") == 0
    manifest = check(shop, COLOURS.keys() - {"item 7"})
    assert manifest["sources"]["image features"]["malformed"] == 1
    assert "item 7.png" in (shop / "out" / "malformed.log").read_text()


def test_an_image_that_changes_meanwhile_stops_the_run(shop, monkeypatch, capsys):
    for name, colour in COLOURS.items():
        paint(shop / "photos" / f"{name}.png", colour)
    seen = []

    def stopping(pictures):
        seen.append(pictures)
        if len(seen) == 3:
            raise OSError("stopped")
        return colours(pictures)

    encoder = Encoder("colours", 3, stopping, {}, 4)
    monkeypatch.setattr(encoders, "image_encoder", lambda model, batch_size: encoder)
    assert run(shop) == 2 and "stopped" in capsys.readouterr().err
    paint(shop / "photos" / "item 1.png", (9, 9, 9))
    assert run(shop) == 2
    assert "out.partial: the encoding was begun with" in capsys.readouterr().err
    paint(shop / "photos" / "item 1.png", COLOURS["item 1"])
    assert run(shop) == 0
    assert [len(pictures) for pictures in seen] == [4] * 4
    check(shop, COLOURS)


def test_images_by_path_stay_inside_the_folder(shop):
    (shop / "photos" / "below").mkdir()
    paint(shop / "secret.png", (1, 2, 3))
    os.symlink(shop / "secret.png", shop / "photos" / "link.png")
    outside = {
        "item 1": "../secret.png",
        "item 2": str(shop / "secret.png"),
        "item 3": "link.png",
        "item 5": "below/../../secret.png",
        "item 6": "nowhere.png",
        "item 8": "below",
        "item 9": "",
    }
    rows = []
    for name, colour in COLOURS.items():
        path = outside.get(name, f"below/{name}.png")
        rows.append(f"{name},{path}\n")
        if name not in outside:
            paint(shop / "photos" / path, colour)
    (shop / "items.csv").write_text("id,picture\n" + "".join(rows))
    table = ("--items", shop / "items.csv", "--id-column", "id", "--image-column", "picture")
    assert run(shop, *table, "--max-malformed", "0.6", "--max-lost", "1") == 0
    manifest = check(shop, COLOURS.keys() - outside.keys())
    counts = manifest["sources"]["image features"]
    assert (counts["records"], counts["malformed"]) == (11, 6)
    log = (shop / "out" / "malformed.log").read_text()
    assert log.count("outside photos") == 4 and log.count("no such file") == 2


def test_no_images_at_all(shop, capsys):
    assert run(shop) == 2
    assert "none is called ID.jpg" in capsys.readouterr().err


def test_two_images_of_one_item(shop, capsys):
    paint(shop / "photos" / "item 1.png", (0, 0, 0))
    paint(shop / "photos" / "item 1.jpg", (0, 0, 0))
    assert run(shop) == 2
    assert "'item 1.jpg' and 'item 1.png' are of one item" in capsys.readouterr().err


def test_decompression_bombs_are_refused_and_large_images_reduced(tmp_path, monkeypatch):
    paint(tmp_path / "large.png", (1, 2, 3), (3000, 100))
    image = images.open_image(tmp_path, "large.png")
    assert image.size[0] == 1024 and image.getpixel((5, 5)) == (1, 2, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    with pytest.raises(MalformedError, match="decompression bomb"):
        images.open_image(tmp_path, "large.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    Image.new(mode, (8, 8)).save(tmp_path / "x.tiff")
    assert images.open_image(tmp_path, "x.tiff").mode == "RGB"


@pytest.mark.extras
def test_a_vision_model_of_transformers(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra encoders")
    transformers = pytest.importorskip("transformers", reason="needs the extra encoders")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
    )
    torch.manual_seed(0)
    model = transformers.ViTModel(config).eval()
    model.save_pretrained(tmp_path / "vit")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    encoder = encoders.image_encoder(str(tmp_path / "vit"), 2)
    assert (encoder.name, encoder.dim, encoder.chunk) == ("vit", 16, 16)
    sizes = [(40, 30), (1, 1), (3, 3), (1, 500), (64, 3)]
    pictures = [Image.new("RGB", size, COLOURS[f"item {n}"]) for n, size in enumerate(sizes)]
    vectors = encoder.encode(pictures)
    # The processor's own steps: resize, scale to 0..1, centre and scale to -1..1.
    pixels = np.stack([np.asarray(p.resize((32, 32)), np.float32) for p in pictures])
    pixels = torch.tensor((pixels / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = model(pixel_values=pixels).pooler_output.numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
