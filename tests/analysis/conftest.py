"""The same as for the attacks, whose cases these tests share."""

from tests.attacks.conftest import quick_compilation  # noqa: F401
