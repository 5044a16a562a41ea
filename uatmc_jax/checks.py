"""Checks of a setting's value; each raises one error that names the field and what was wanted.

They know nothing but numbers and names, so that every package's own settings can use them.
"""

from typing import Any

from uatmc_jax.errors import InputError


def require(right: bool, field: str, value: Any, wanted: str) -> None:
    """Raises InputError naming the field, its value and what was wanted, unless `right`.

    Args:
      right: whether the value can be used.
      field: its dotted name below `config`.
      value: as given.
      wanted: what would do.
    """
    if not right:
        raise InputError(f"config.{field} = {value!r}: wanted {wanted}.")


def is_count(value: Any) -> bool:
    """Whether the value is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Requires one of `choices`."""
    require(value in choices, field, value, " or ".join(repr(c) for c in choices))


def at_least(field: str, value: float, least: float) -> None:
    """Requires a number not below `least`."""
    require(value >= least, field, value, f"a number >= {least}")


def positive(field: str, value: float) -> None:
    """Requires a number above 0."""
    require(value > 0, field, value, "a number > 0")
