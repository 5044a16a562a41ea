"""Edits of a text: candidates ranked by the gradient, each verified by a forward pass, a beam.

What a word put at a place changes Phi by is, to first order, <g, E[new] - E[old]> (HotFlip):
g is Phi's slope at the vector that the place's token is read as, E the encoder's table. For
a word to be put in, g is taken at a placeholder that stands there. The ranking only says
what to try: what counts is the text itself, encoded.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from uatmc_jax.edits.constraints import Constraint, broken
from uatmc_jax.edits.pixels import Seen, rank
from uatmc_jax.edits.wording import (
    INSERTED,
    Wording,
    insert,
    span_of,
    substitute,
    text_of,
)
from uatmc_jax.preparation.twins import Saliency, Vocabulary

OPERATIONS = ("substitution", "insertion")
# Nearest words tried in place of one, as TextFooler has it.
NEIGHBOURS = 50


class WordSearch(NamedTuple):
    """How far a search goes.

    Attributes:
      max_words: at most so many new words.
      beam: wordings kept after each word.
      verified: candidates encoded for each wording kept, at most one for each word put in.
      similarity: least cosine of the edited text's feature with the original's, by operation.
    """

    max_words: int = 3
    beam: int = 2
    verified: int = 24
    similarity: tuple[float, float] = (0.8, 0.7)


class Words(NamedTuple):
    """What may be put into a text.

    Attributes:
      vocabulary: words with vectors.
      usable: (V,) bool, those that may be put in.
      replace: {word in lower case: places in the vocabulary of what may stand for it}.
      place: {word: its place}.
    """

    vocabulary: Vocabulary
    usable: np.ndarray
    replace: Callable[[str], np.ndarray]
    placeholder: str


class Verified(NamedTuple):
    """What an edited text is worth.

    Attributes:
      seen: hit rate and Phi.
      similarity: cosine of its feature with the original's.
    """

    seen: Seen
    similarity: float


class FoundText(NamedTuple):
    """The best wording of a search.

    Attributes:
      wording: the text.
      verified: what it is worth.
    """

    wording: Wording
    verified: Verified


# texts -> the saliency of each; texts -> what each is worth
Slopes = Callable[[Sequence[str]], list[Saliency]]
Verify = Callable[[Sequence[str]], list[Verified]]


def neighbours(vocabulary: Vocabulary, usable: np.ndarray, least: float) -> Callable:
    """word -> places of its nearest usable words with a cosine of at least `least`."""
    length = np.linalg.norm(vocabulary.vectors, axis=1, keepdims=True)
    unit = vocabulary.vectors / np.maximum(length, 1e-30)
    places = {word: place for place, word in enumerate(vocabulary.words)}

    def nearest(word: str) -> np.ndarray:
        place = places.get(word.lower())
        if place is None:
            return np.zeros(0, int)
        cosine = unit @ unit[place]
        cosine[place] = -np.inf
        cosine[~usable] = -np.inf
        best = np.argsort(-cosine)[:NEIGHBOURS]
        return best[cosine[best] >= least]

    return nearest


def search_words(
    wording: Wording,
    operation: str,
    words: Words,
    rules: Sequence[Constraint],
    search: WordSearch,
    slopes: Slopes,
    verify: Verify,
) -> FoundText:
    """The best wording within the rules; the original where nothing is better.

    Args:
      wording: the original.
      operation: "substitution" or "insertion".
      words: what may be put in.
      rules: every candidate keeps to them.
      search: its size.
      slopes: by token, of Phi.
      verify: of texts.
    """
    least = search.similarity[OPERATIONS.index(operation)]
    (clean,) = verify([text_of(wording)])
    best = FoundText(wording, clean)
    beam = [best]
    for _ in range(search.max_words):
        tried: dict[str, Wording] = {}
        for kept in beam:
            ordered = _ranked(kept.wording, operation, words, slopes)
            for candidate in _first(ordered, wording, rules, search.verified, tried):
                tried[text_of(candidate)] = candidate
        if not tried:
            break
        found = [
            FoundText(candidate, verified)
            for candidate, verified in zip(tried.values(), verify(list(tried)), strict=True)
            if verified.similarity >= least
        ]
        found.sort(key=lambda one: rank(one.verified.seen), reverse=True)
        beam = found[: search.beam]
        if beam and rank(beam[0].verified.seen) > rank(best.verified.seen):
            best = beam[0]
        if not beam:
            break
    return best


def _first(ordered, original: Wording, rules, count: int, tried) -> list[Wording]:
    """The first candidates that keep to the rules and were not tried yet."""
    chosen: list[Wording] = []
    for candidate in ordered:
        if len(chosen) >= count:
            break
        if text_of(candidate) not in tried and not broken(rules, original, candidate):
            chosen.append(candidate)
    return chosen


def _ranked(wording: Wording, operation: str, words: Words, slopes: Slopes):
    """Yields candidates, the most promising to first order first.

    A word to be put in comes at its most promising place alone: where it stands matters less
    than which it is, and each that is tried costs a forward pass.
    """
    substitutes = operation == "substitution"
    make = substitute if substitutes else insert
    score, place, word = (_substitutes if substitutes else _inserted)(wording, words, slopes)
    put_in: set[int] = set()
    for n in np.argsort(-score, kind="stable"):
        if substitutes or int(word[n]) not in put_in:
            put_in.add(int(word[n]))
            yield make(wording, int(place[n]), words.vocabulary.words[word[n]])


def _substitutes(wording: Wording, words: Words, slopes: Slopes):
    (found,) = slopes([text_of(wording)])
    scores, places, chosen = [], [], []
    for place, origin in enumerate(wording.origin):
        token = _token_at(found, span_of(wording, place))
        if origin == INSERTED or token is None:
            continue
        to = words.replace(wording.words[place])
        step = words.vocabulary.vectors[to] - found.vectors[token]
        scores.append(step @ found.gradients[token])
        places.append(np.full(len(to), place))
        chosen.append(to)
    return _joined(scores, places, chosen)


def _inserted(wording: Wording, words: Words, slopes: Slopes):
    gaps = range(len(wording.words) + 1)
    shown = [insert(wording, place, words.placeholder) for place in gaps]
    to = np.flatnonzero(words.usable)
    scores, places, chosen = [], [], []
    for place, with_it, found in zip(gaps, shown, slopes(list(map(text_of, shown))), strict=True):
        token = _token_at(found, span_of(with_it, place))
        if token is None:
            continue
        step = words.vocabulary.vectors[to] - found.vectors[token]
        scores.append(step @ found.gradients[token])
        places.append(np.full(len(to), place))
        chosen.append(to)
    return _joined(scores, places, chosen)


def _joined(scores: list, places: list, chosen: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not scores:
        return np.zeros(0), np.zeros(0, int), np.zeros(0, int)
    return np.concatenate(scores), np.concatenate(places), np.concatenate(chosen)


def _token_at(found: Saliency, span: tuple[int, int]) -> int | None:
    """The first token of a word; None where the encoder reads none of it."""
    start, end = found.spans[:, 0], found.spans[:, 1]
    inside = (end > start) & (start >= span[0]) & (end <= span[1])
    return int(np.argmax(inside)) if inside.any() else None
