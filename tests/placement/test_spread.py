"""One, two and eight devices, simulated: the same training, rankings, attacks and checkpoints."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.conftest import ROOT, simulated
from tests.placement.on_devices import BATCH, K, dataset, settings_for
from uatmc_jax import checkpoint, logs
from uatmc_jax.training import train_and_evaluate

WIDTH, STAGE_2 = 16, ("adversarial",)  # 2d of configs/test.py
LOSS, PARAMETER = 2e-6, 1e-6


def run_simulated(*arguments):
    """Runs a module with eight simulated devices."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=simulated(8),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def what_devices_make(out, meshes, stages, model="vbpr"):
    """{DEVICES/NAME: array} of a run of `on_devices`."""
    run_simulated("tests.placement.on_devices", str(out), meshes, stages, model)
    return dict(np.load(out / "found.npz"))


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Stage 2 with deferred rows on one and eight devices."""
    return what_devices_make(tmp_path_factory.mktemp("eight"), "1,8", "deferred")


@pytest.fixture(scope="module")
def all_meshes(tmp_path_factory):
    """Both stages with dense rows, also on two."""
    return what_devices_make(tmp_path_factory.mktemp("all"), "1,2,8", "pretrain,adversarial")


def under(found, devices, part):
    return {
        k: v for k, v in found.items() if k.startswith(f"{devices}/{part}/") and "sent" not in k
    }


def assert_as_on_one_device(found, devices, stages):
    for part in (*stages, "valid", "drawn"):
        for name, there in under(found, devices, part).items():
            here = found[name.replace(f"{devices}/", "1/", 1)]
            np.testing.assert_allclose(there, here, rtol=LOSS, err_msg=name)
    for name, there in under(found, devices, "params").items():
        here = found[name.replace(f"{devices}/", "1/", 1)]
        np.testing.assert_allclose(there, here, atol=PARAMETER, err_msg=name)
    np.testing.assert_array_equal(found[f"{devices}/ranked/ids"], found["1/ranked/ids"])
    for name in ("hr_before", "hr_after", "rank_before", "rank_after"):
        np.testing.assert_array_equal(
            found[f"{devices}/attack/{name}"], found[f"1/attack/{name}"], err_msg=name
        )
    for name in ("delta", "utility_after"):
        np.testing.assert_allclose(
            found[f"{devices}/attack/{name}"], found[f"1/attack/{name}"], rtol=1e-5, atol=1e-6
        )


def assert_sends_little(found, devices, stages, tables=1):
    """Of a step the batch's rows and ids; of a ranking items' rows and lists; of an attack none.

    Args:
      tables: 3 where a step reads the moments' rows, too.
    """
    data, batch_rows = dataset(), 4 * BATCH * (WIDTH + 2 * WIDTH // 2)
    for stage in stages:
        in_steps, once = found[f"{devices}/{stage}/sent"]
        assert 0 < in_steps <= tables * (batch_rows + 4 * 3 * BATCH)
        # Whole tables and moments would be six times this.
        assert once < 4 * (data.n_users * WIDTH + data.n_items * WIDTH // 2)
    users, items = 4 * data.n_users * (2 * K + WIDTH), 4 * data.n_items * 2 * WIDTH
    assert found[f"{devices}/ranked/sent"] < 2 * (users + items)
    assert found[f"{devices}/attack/sent"] == 0


def assert_restored_on_one_device(found, devices):
    for name, there in under(found, devices, "restored").items():
        np.testing.assert_array_equal(there, found[name.replace("restored", "params")])


@pytest.mark.long  # one process of eight devices
def test_eight_devices_are_as_one(eight):
    assert_as_on_one_device(eight, 8, STAGE_2)


@pytest.mark.long  # one process of eight devices
def test_eight_devices_send_little(eight):
    assert_sends_little(eight, 8, STAGE_2, tables=3)


@pytest.mark.long  # one process of eight devices
def test_what_eight_devices_save_one_restores(eight):
    assert_restored_on_one_device(eight, 8)


@pytest.mark.long
def test_both_stages_on_two_and_eight_devices(all_meshes):
    """Beside what is tested of stage 2: two and eight devices agree bit for bit."""
    for devices in (2, 8):
        assert_as_on_one_device(all_meshes, devices, ("pretrain", "adversarial"))
        assert_sends_little(all_meshes, devices, ("pretrain", "adversarial"))
        assert_restored_on_one_device(all_meshes, devices)
    for name, value in all_meshes.items():
        if name.startswith("2/") and "sent" not in name:
            np.testing.assert_array_equal(value, all_meshes[f"8/{name[2:]}"], err_msg=name)


@pytest.mark.slow
def test_a_model_that_propagates_on_eight_devices(tmp_path):
    """MMGCN, its graph whole on each; Adam's first steps magnify sums in another order.

    Hundreds of operations between devices in a step: minutes.
    """
    found = what_devices_make(tmp_path, "1,8", "adversarial", "mmgcn")
    for part, tolerance in (("adversarial", 2e-6), ("valid", 0.05)):
        for name, there in under(found, 8, part).items():
            np.testing.assert_allclose(there, found[f"1{name[1:]}"], rtol=tolerance, err_msg=name)
    for name, there in under(found, 8, "params").items():
        np.testing.assert_allclose(there, found[f"1{name[1:]}"], atol=2e-3, err_msg=name)
    for name in ("hr_before", "hr_after"):
        there, here = (found[f"{n}/attack/{name}"] for n in (8, 1))
        np.testing.assert_allclose(there, here, atol=0.05)


@pytest.mark.long
def test_what_eight_devices_began_one_goes_on_with(tmp_path):
    """Stopped after an epoch, resumed in this process: as if one had trained all along."""
    run_simulated("tests.placement.interrupted", str(tmp_path / "begun"))
    settings, data = settings_for(1), dataset()
    train_and_evaluate(settings, tmp_path / "begun", dataset=data, resume=True)
    train_and_evaluate(settings, tmp_path / "whole", dataset=data)
    for stage in checkpoint.STAGES:
        a, b = (checkpoint.restore(tmp_path / run, stage, "latest") for run in ("begun", "whole"))
        assert a.meta["epoch"] == b.meta["epoch"]
        for x, y in zip(*(jax.tree.leaves(one.params) for one in (a, b)), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-4)
    for one, other in zip(
        *(logs.read_records(tmp_path / r) for r in ("begun", "whole")), strict=True
    ):
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-4)
