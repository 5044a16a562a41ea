"""Damaged files and absurd settings: each case is one clear error, or a result that is right.

Beside these, tests/preparation/test_fuzz.py and tests/conversion do the same for their commands.
"""

import copy
import io
import json
import math
import pathlib
import shutil
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import attack as attack_config
from configs import audit as audit_config
from configs import test as test_config
from uatmc_jax.auditing.plan import fit_audit, hardened_settings, victim_settings
from uatmc_jax.benchmark.checks import check_attacks
from uatmc_jax.data import (
    SPLITS,
    load_dataset,
    load_item_names,
    load_item_titles,
    make_synthetic,
    write_dataset,
)
from uatmc_jax.errors import DataWarning, InputError
from uatmc_jax.settings import AttackRunSettings, AuditSettings, Settings, from_values, to_dict

CASES = {"derandomize": True, "deadline": None, "suppress_health_check": list(HealthCheck)}


SHAPES = [(20, 3), (19, 3), (20,), (0, 3), (20, 0), (2, 2, 2), ()]


def one_line(error):
    """Whether a user would see one line that says something."""
    text = str(error)
    return 10 < len(text) < 3000 and "\n" not in text and "Traceback" not in text


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder in order."""
    folder = tmp_path_factory.mktemp("fuzz") / "shop"
    dataset = make_synthetic(5, n_users=30, n_items=20, n_interactions=150)
    write_dataset(dataset, folder)
    (folder / "synthetic.inter").rename(folder / "shop.inter")
    (folder / "i_id_mapping.csv").write_text("asin\titemID\nA\t0\nB\t1\n")
    (folder / "items.csv").write_text('itemID,title\n0,"Cup, blue"\n1,Pan\n')
    return folder


FILES = ("shop.inter", "image_feat.npy", "text_feat.npy", "i_id_mapping.csv", "items.csv")
CELLS = st.one_of(
    st.integers(-3, 60).map(str),
    st.sampled_from(
        ["", " ", "x", "1.5", "-0", "nan", "1e3", "2147483648", "٣", "0x1", "\x00", '"']
    ),
    st.text(max_size=6),
)


def damage(data, name, content):
    """The file's bytes with something done to them."""
    kind = data.draw(st.sampled_from(["cut", "flip", "insert", "cell", "swap", "array", "random"]))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content)))]
    if kind == "random":
        return data.draw(st.binary(max_size=200))
    if kind == "array" and name.endswith(".npy"):
        shape = data.draw(
            st.sampled_from([(20, 3), (19, 3), (20,), (0, 3), (20, 0), (2, 2, 2), ()])
        )
        value = data.draw(st.sampled_from([1.0, 0.0, math.nan, math.inf, 1e39, -1.0]))
        dtype = data.draw(st.sampled_from(["f2", "f4", "f8", "i4", "?", "c8", "U3"]))
        file = io.BytesIO()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            filled = np.full(shape, value if dtype != "i4" else 1).astype(dtype)
        np.save(file, filled)
        return file.getvalue()
    if kind == "cell" and not name.endswith(".npy"):
        lines = content.decode().split("\n")
        row = data.draw(st.integers(0, len(lines) - 1))
        cells = lines[row].split("\t")
        cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(CELLS)
        lines[row] = "\t".join(cells)
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    if kind == "swap" and not name.endswith(".npy"):
        lines = content.split(b"\n")
        rows = data.draw(st.lists(st.sampled_from(lines), max_size=2 * len(lines)))
        return b"\n".join(lines[:1] + rows)
    place = data.draw(st.integers(0, max(len(content) - 1, 0)))
    some = data.draw(st.binary(min_size=1, max_size=4))
    return content[:place] + some + content[place + (len(some) if kind == "flip" else 0) :]


@settings(max_examples=400, **CASES)
@given(data=st.data())
def test_damaged_folders(data, good):
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "shop"
        shutil.copytree(good, folder)
        name = data.draw(st.sampled_from(FILES))
        (folder / name).write_bytes(damage(data, name, (good / name).read_bytes()))
        if data.draw(st.integers(0, 20)) == 0:
            (folder / data.draw(st.sampled_from(FILES))).unlink()
        for read in (load_item_names, load_item_titles):
            try:
                found = read(folder)
            except InputError as error:
                assert one_line(error)
            else:
                assert all(isinstance(k, str) != isinstance(v, str) for k, v in found.items())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                dataset = load_dataset(folder, "shop")
        except InputError as error:
            assert one_line(error) and str(folder) in str(error)
            return
        pairs = [dataset.split(split) for split in SPLITS]
        assert all(len(split) for split in pairs)
        together = np.concatenate([np.stack([p.users, p.items], 1) for p in pairs])
        assert len(np.unique(together, axis=0)) == len(together)
        assert (
            together.min() >= 0
            and (together.max(axis=0) < (dataset.n_users, dataset.n_items)).all()
        )
        assert all(x.shape[0] == dataset.n_items and np.isfinite(x).all() for x in dataset.features)


KINDS = {
    "train": (Settings, test_config.get_config().to_dict()),
    "attack": (AttackRunSettings, attack_config.get_config().to_dict()),
    "audit": (AuditSettings, audit_config.get_config("quick").to_dict()),
}
SCALARS = st.one_of(st.integers(-1, 60), st.floats(), st.text(max_size=3))
VALUES = st.one_of(
    st.integers(-2, 70),
    st.integers(min_value=2**31),
    st.just(10**400),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.sampled_from(
        [
            "l2",
            "linf",
            "mmgcn",
            "linear_vbpr",
            "exact",
            "uat",
            "ids",
            "random",
            "feature",
            ":",
            "a:b",
        ]
    ),
    st.lists(st.one_of(st.integers(-1, 60), st.floats(), st.text(max_size=3)), max_size=3).map(
        tuple
    ),
    st.dictionaries(st.text(max_size=4), st.integers(-1, 3), max_size=2),
)


def paths(tree, prefix=()):
    """The way to every field and section of a nested dict."""
    for name, value in tree.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, name))


@settings(max_examples=600, **CASES)
@given(data=st.data())
def test_absurd_settings(data, dataset):
    kind, plain = KINDS[data.draw(st.sampled_from(sorted(KINDS)))]
    changed = copy.deepcopy(plain)
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(sorted(paths(plain))))
        section = changed
        for name in way:
            section = section[name] if isinstance(section, dict) and name in section else {}
        if not isinstance(section, dict):
            continue
        if data.draw(st.integers(0, 9)) == 0:
            section.pop(last, None)
        else:
            section[last] = data.draw(VALUES)
    try:
        typed = from_values(kind, changed)
        if kind is AttackRunSettings:
            check_attacks(typed, typed.attacks, dataset)
        if kind is AuditSettings:
            fitted, _ = fit_audit(typed, dataset)
            check_attacks(fitted.attack, fitted.attack.attacks, dataset)
            candidates = victim_settings(fitted)
            hardened_settings(fitted, next(iter(candidates.values())), pathlib.Path("x"))
    except InputError as error:
        assert one_line(error) and "config" in str(error)
        return
    # What is accepted survives its own file.
    assert from_values(kind, json.loads(json.dumps(to_dict(typed)))) == typed
