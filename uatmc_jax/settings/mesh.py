"""Several devices, as training and attacks ask for them."""

import dataclasses

from uatmc_jax.checks import at_least, is_count, one_of, require


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """Several devices (docs/scale.md).

    Attributes:
      devices: how many of those that JAX sees; -1 for all.
      row_multiple: tables are filled up to a multiple of it and users are cut into as many
        parts; a multiple of the number of devices, and better the same for any number.
      features: as what raw features lie on several devices: "float32", or "float16" of those
        that float16 holds, which halves them and changes no number.
    """

    devices: int = 1
    row_multiple: int = 64
    features: str = "float32"

    def __post_init__(self):
        right = is_count(self.devices) or self.devices == -1
        require(right, "mesh.devices", self.devices, "1 or more, or -1 for all")
        at_least("mesh.row_multiple", self.row_multiple, 1)
        one_of("mesh.features", self.features, ("float32", "float16"))
