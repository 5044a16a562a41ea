"""Shows a docstring's doctests as code, wherever in it they stand."""

import re

import griffe

DOCTEST = re.compile(r"^>>> .*\n?(?:^(?!$).*\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around every doctest."""

    def on_object(self, *, obj, **_) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = DOCTEST.sub(_fenced, obj.docstring.value)


def _fenced(match):
    return f"```pycon\n{match.group().rstrip()}\n```\n"
