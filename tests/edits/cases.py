"""A tiny shop with drawn pictures, and tiny random encoders with derivatives."""

import csv
import hashlib
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from uatmc_jax.data import load_dataset
from uatmc_jax.defenses import AdversarialSettings
from uatmc_jax.edits.wording import parse, span_of
from uatmc_jax.models import VBPRSettings, project_catalogue
from uatmc_jax.models.registry import build_model
from uatmc_jax.opened import OpenedRun
from uatmc_jax.preparation import GenericSettings, prepare
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.lite import encode_with, shrink
from uatmc_jax.preparation.twins import ImageTwin, Saliency, TextTwin, Vocabulary
from uatmc_jax.settings import DataSettings, PretrainSettings, Settings

torch = pytest.importorskip("torch", reason="edits follow an encoder's derivative (extra edits)")

SIDE, DIM = 6, 5
WORDS = """new neat smart cosy stylish slim soft relaxed classic dress shirt"""
VOCABULARY = sorted(WORDS.split())


def _drawn(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def image_forward(pictures):
    """(n, 3, H, W) -> (n, DIM): shrunk, one random layer, tanh."""
    small = shrink(pictures, SIDE).flatten(1)
    return torch.tanh((small - 127) / 128 @ _drawn(1, 3 * SIDE * SIDE, DIM))


def image_encoder(name, batch_size):
    twin = ImageTwin(image_forward)
    recipe = {"weights_sha256": "of seed 1"}
    return Encoder(
        name, DIM, lambda xs: encode_with(twin, xs), {"tiny": "1"}, batch_size, recipe, lambda: twin
    )


def vector(word):
    """(4,) of any word."""
    digest = hashlib.sha256(word.lower().encode()).digest()
    return np.random.default_rng(list(digest[:8])).normal(size=4).astype(np.float32)


def read(words):
    """torch (n words, 4) -> (DIM,): mean, one random layer, tanh."""
    return torch.tanh(2 * words.mean(dim=0) @ _drawn(2, 4, DIM))


def vectors_of(text):
    return torch.from_numpy(np.stack([vector(word) for word in parse(text).words]))


def saliency(texts, cotangent):
    leaves = [vectors_of(text).requires_grad_(True) for text in texts]
    features = torch.stack([read(leaf) for leaf in leaves])
    features.backward(cotangent(features.detach()))
    found = []
    for text, leaf in zip(texts, leaves, strict=True):
        wording = parse(text)
        spans = np.array([span_of(wording, place) for place in range(len(wording.words))])
        found.append(Saliency(spans, leaf.grad.numpy(), leaf.detach().numpy()))
    return found


def encode_texts(texts):
    return np.stack([read(vectors_of(text)).numpy() for text in texts])


def text_encoder(name, batch_size):
    words = Vocabulary(VOCABULARY, np.stack([vector(word) for word in VOCABULARY]))
    twin = TextTwin(saliency, words, "thing")
    recipe = {"weights_sha256": "of seed 2"}
    return Encoder(name, DIM, encode_texts, {"tiny": "1"}, batch_size, recipe, lambda: twin)


def draw_picture(n):
    rng = np.random.default_rng(n)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((20, 16), Image.Resampling.BICUBIC)


def write_sources(folder, n_users=30, n_items=24):
    """Tables and pictures."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    colours, kinds = ("red", "navy blue", "black"), ("dress", "shirt")
    with open(folder / "items.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "category", "description"])
        for n in range(n_items):
            kind, colour = kinds[n % 2], colours[n % 3]
            style = VOCABULARY[n % 4]
            title = f"{style} {kind} no. {n}, {colour}"
            table.writerow([f"p{n}", title, kind, f"A {kind} in {colour}."])
            draw_picture(n).save(folder / "photos" / f"p{n}.png")
    with open(folder / "clicks.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["user", "item"])
        for user in range(n_users):
            for item in rng.choice(n_items, 8, replace=False):
                table.writerow([f"u{user}", f"p{item}"])


def make_run(folder: pathlib.Path) -> OpenedRun:
    """A prepared shop and an untrained recommender of it; the encoders are those above."""
    prepare(
        GenericSettings(
            out=folder / "shop", name="shop", interactions=folder / "clicks.csv", core=0,
            user_column="user", item_column="item", items=folder / "items.csv", id_column="id",
            title_column="title", category_column="category", images=folder / "photos",
            text_columns=("title", "description"), image_encoder="tiny", text_encoder="tiny",
        )
    )  # fmt: skip
    return run_of(folder, VBPRSettings(dim=4))


def run_of(folder: pathlib.Path, chosen) -> OpenedRun:
    """An untrained recommender of a prepared shop."""
    none = {} if isinstance(chosen, VBPRSettings) else {"alpha": 0.0, "mu": 0.0}
    settings = Settings(
        data=DataSettings(name="shop", root=str(folder)),
        model=chosen,
        pretrain=PretrainSettings(**none),
        adversarial=AdversarialSettings(epochs=0, defense="none"),
    )
    data = load_dataset(folder / "shop", "shop", settings.data.modalities)
    model = build_model(settings.model, data.sizes)
    params = model.init(jax.random.key(0))
    z = project_catalogue(model, params, data.on_device.features)
    where = {"stage": "pretrain", "which": "best", "epoch": 0, "parameters": "none"}
    return OpenedRun(folder / "run", model, params, data, z, settings, where)
