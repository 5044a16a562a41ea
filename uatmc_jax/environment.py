"""On what a result was got: versions, code, device, memory."""

import functools
import hashlib
import os
import pathlib
import platform
import resource
import subprocess
import sys
from importlib import metadata

import jax

_PACKAGES = ("uatmc_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict:
    """{"versions": {package: version}, "code": `code()`, "device": {"platform", "kind"}}."""
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in _PACKAGES},
        "code": code(),
        "device": {"platform": device.platform, "kind": device.device_kind},
    }


def peak_memory_mib() -> int:
    """Most memory this process has held on the host, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def device_memory_bytes() -> int:
    """What one of JAX's devices may hold: as it says itself, or its part of the host's memory."""
    said = jax.local_devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return said.get("bytes_limit", host // jax.local_device_count())


@functools.cache
def code() -> dict:
    """{"commit": of the checkout, None outside of one; "sources": digest of the package's files}.

    A commit whose tracked files have been changed since ends in "+changes".
    """
    package = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + file.read_bytes())
    commit = _git(package, "rev-parse", "HEAD")
    if commit and _git(package, "status", "--porcelain", "--untracked-files=no"):
        commit += "+changes"
    return {"commit": commit or None, "sources": digest.hexdigest()[:16]}


def _git(folder: pathlib.Path, *command: str) -> str:
    """What git prints; nothing where there is no git or no checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
