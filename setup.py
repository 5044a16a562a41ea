"""The packages of a distribution; everything else is in pyproject.toml.

The experiments' configs live in configs/ at the root, where one reads them first, and are
installed as uatmc_jax.configs. A list in pyproject.toml cannot both find the others and add one.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["uatmc_jax", "uatmc_jax.*"]), "uatmc_jax.configs"],
    package_dir={"uatmc_jax.configs": "configs"},
)
