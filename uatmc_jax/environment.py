"""On what a result was got: versions, device, memory."""

import platform
import resource
import sys
from importlib import metadata

import jax

_PACKAGES = ("uatmc_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict:
    """{"versions": {package: version}, "device": {"platform", "kind"}}."""
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in _PACKAGES},
        "device": {"platform": device.platform, "kind": device.device_kind},
    }


def peak_memory_mib() -> int:
    """Most memory this process has held on the host, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
