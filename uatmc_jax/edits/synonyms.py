"""WordNet's synonyms, from its files (Debian's package `wordnet-base` has them).

    synset_offset lex_filenum ss_type w_cnt word lex_id [word lex_id ...] ... | gloss      (wndb(5))

A synset is what some words mean as one part of speech; so whoever keeps to one keeps the part of
speech too. Read here: NLTK's reader takes five seconds to import, refuses folders that are not
its own, and wants files that this package lacks.
"""

import pathlib
import re
from collections.abc import Callable, Mapping

import numpy as np

from uatmc_jax.errors import InputError

FILES = tuple(f"data.{name}" for name in ("noun", "verb", "adj", "adv"))
_PLAIN = re.compile("[a-z]+")


def read_synonyms(folder: pathlib.Path) -> dict[str, frozenset[str]]:
    """{word: the others of all synsets that have it}, single words in lower case.

    Args:
      folder: with `FILES`.

    Raises:
      InputError: a file is not there, or not WordNet's.
    """
    found: dict[str, set[str]] = {}
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise InputError(
                f"--synonyms {folder}: has no {name}. Give the folder of WordNet's files, "
                "/usr/share/wordnet after apt install wordnet-base."
            )
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
            if line.startswith("  "):
                continue  # the licence
            try:
                words = _words_of(line)
            except (ValueError, IndexError):
                raise InputError(f"{path}, line {number}: not a synset of WordNet's.") from None
            for word in words:
                found.setdefault(word, set()).update(words)
    return {word: frozenset(others - {word}) for word, others in found.items()}


def _words_of(line: str) -> list[str]:
    """A synset's single words; (a), (p) and (ip) say where an adjective may stand."""
    fields = line.split(" ", 4)
    int(fields[0])
    words = fields[4].split(" ")[: 2 * int(fields[3], 16) : 2]
    low = [re.sub(r"\((a|p|ip)\)$", "", word).lower() for word in words]
    return [word for word in low if _PLAIN.fullmatch(word)]


def synonyms_within(
    words: list[str], usable: np.ndarray, synonyms: Mapping[str, frozenset[str]]
) -> Callable[[str], np.ndarray]:
    """word -> places in `words` of its usable synonyms, ascending.

    Args:
      words: the vocabulary.
      usable: (V,) bool, those that may be put in.
      synonyms: of `read_synonyms`.
    """
    places = {word: place for place, word in enumerate(words) if usable[place]}

    def of(word: str) -> np.ndarray:
        others = synonyms.get(word.lower(), frozenset())
        return np.array(sorted(places[other] for other in others if other in places), int)

    return of
