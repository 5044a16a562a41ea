"""What an edited text must keep to: predicates under the field's names (TextAttack's), composable.

>>> from uatmc_jax.edits.attributes import protected_words
>>> from uatmc_jax.edits.wording import parse, substitute
>>> slim = parse("slim red dress")
>>> rules = (max_words_perturbed(1), protected_attributes(protected_words()))
>>> broken(rules, slim, substitute(slim, 1, "blue"))
['protected_attributes']
>>> broken(rules, slim, substitute(slim, 0, "neat"))
[]
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from uatmc_jax.edits.attributes import STOP_WORDS, attribute_of
from uatmc_jax.edits.wording import INSERTED, Wording, changed, new_words


class Constraint(NamedTuple):
    """One rule.

    Attributes:
      name: in results.
      allows: (original, edited) -> whether the edit keeps to it.
    """

    name: str
    allows: Callable[[Wording, Wording], bool]


def broken(rules: Iterable[Constraint], original: Wording, edited: Wording) -> list[str]:
    """Names of the rules that an edit breaks."""
    return [rule.name for rule in rules if not rule.allows(original, edited)]


def max_words_perturbed(most: int) -> Constraint:
    """At most so many words are new, and none is left out."""

    def allows(original: Wording, edited: Wording) -> bool:
        kept = [origin for origin in edited.origin if origin != INSERTED]
        whole = kept == list(range(len(original.words)))
        return whole and len(changed(original, edited)) <= most

    return Constraint("max_words_perturbed", allows)


def stopword_modification() -> Constraint:
    """No stop word is replaced, and none is put in."""

    def allows(original: Wording, edited: Wording) -> bool:
        places = changed(original, edited)
        old = [original.words[at] for p in places if (at := edited.origin[p]) != INSERTED]
        return STOP_WORDS.isdisjoint(word.lower() for word in (*old, *new_words(original, edited)))

    return Constraint("stopword_modification", allows)


def repeat_modification() -> Constraint:
    """No new word that the text has already, or gets twice."""

    def allows(original: Wording, edited: Wording) -> bool:
        low = [word.lower() for word in edited.words]
        return all(low.count(word.lower()) == 1 for word in new_words(original, edited))

    return Constraint("repeat_modification", allows)


def protected_attributes(protected: Mapping[str, str]) -> Constraint:
    """Words that say a colour, size, material, ... stay as they are, and none comes in.

    Args:
      protected: of `attributes.protected_words`.
    """

    def said(wording: Wording) -> list[str]:
        low = [word.lower() for word in wording.words]
        return [word for word in low if attribute_of(word, protected)]

    return Constraint(
        "protected_attributes", lambda original, edited: said(original) == said(edited)
    )


def word_embedding_distance(vectors: Mapping[str, np.ndarray], least: float) -> Constraint:
    """A replaced word and the new one have a cosine of at least `least`.

    Args:
      vectors: {word in lower case: (e,) of length 1}; a word without one is not replaced.
      least: in [-1, 1].
    """

    def allows(original: Wording, edited: Wording) -> bool:
        for place in changed(original, edited):
            if edited.origin[place] == INSERTED:
                continue
            words = original.words[edited.origin[place]], edited.words[place]
            pair = [vectors.get(word.lower()) for word in words]
            if pair[0] is None or pair[1] is None or pair[0] @ pair[1] < least:
                return False
        return True

    return Constraint("word_embedding_distance", allows)


def wordnet_synonym(synonyms: Mapping[str, frozenset[str]]) -> Constraint:
    """A replaced word and the new one are in one synset, so of one meaning and part of speech.

    Args:
      synonyms: of `synonyms.read_synonyms`.
    """

    def allows(original: Wording, edited: Wording) -> bool:
        pairs = [
            (original.words[edited.origin[place]].lower(), edited.words[place].lower())
            for place in changed(original, edited)
            if edited.origin[place] != INSERTED
        ]
        return all(new in synonyms.get(old, frozenset()) for old, new in pairs)

    return Constraint("wordnet_synonym", allows)


def usable(words: Sequence[str], protected: Mapping[str, str]) -> np.ndarray:
    """(V,) bool: words that neither are stop words nor say something protected."""
    return np.array(
        [word not in STOP_WORDS and attribute_of(word, protected) is None for word in words], bool
    )
