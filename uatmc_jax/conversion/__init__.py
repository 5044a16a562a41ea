"""Weights from MMRec's PyTorch checkpoints, and from and to safetensors, as runs."""

from uatmc_jax.conversion.exchange import export_run, import_file
from uatmc_jax.conversion.imported import Imported
from uatmc_jax.conversion.mmrec import from_state
from uatmc_jax.conversion.torch_file import import_mmrec, read_state

__all__ = ["Imported", "export_run", "from_state", "import_file", "import_mmrec", "read_state"]
