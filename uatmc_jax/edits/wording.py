"""A text as words that can be replaced and put in, each with where it came from."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*'?")
INSERTED = -1


class Wording(NamedTuple):
    """A text, cut into words.

    Attributes:
      words: n of them.
      before: n, what stands before each.
      after: what stands after the last.
      origin: n, which of the original's words each is or stands for; -1 of one put in.
    """

    words: tuple[str, ...]
    before: tuple[str, ...]
    after: str
    origin: tuple[int, ...]


def parse(text: str) -> Wording:
    """Cuts a text into words; `text_of` puts it together again.

    >>> parse("men's slim dress, red").words
    ("men's", 'slim', 'dress', 'red')
    """
    words, before, end = [], [], 0
    for match in _WORD.finditer(text):
        words.append(match.group())
        before.append(text[end : match.start()])
        end = match.end()
    return Wording(tuple(words), tuple(before), text[end:], tuple(range(len(words))))


def text_of(wording: Wording) -> str:
    """The text."""
    pairs = zip(wording.before, wording.words, strict=True)
    return "".join(gap + word for gap, word in pairs) + wording.after


def span_of(wording: Wording, place: int) -> tuple[int, int]:
    """Where in the text a word begins and ends."""
    pairs = zip(wording.before[:place], wording.words[:place], strict=True)
    start = sum(len(gap) + len(word) for gap, word in pairs) + len(wording.before[place])
    return start, start + len(wording.words[place])


def substitute(wording: Wording, place: int, word: str) -> Wording:
    """The wording with another word at a place, capitalised as the one before.

    >>> text_of(substitute(parse("A slim dress"), 1, "neat"))
    'A neat dress'
    """
    old = wording.words[place]
    shown = word.upper() if len(old) > 1 and old.isupper() else word
    shown = shown[:1].upper() + shown[1:] if old[:1].isupper() else shown
    return wording._replace(words=(*wording.words[:place], shown, *wording.words[place + 1 :]))


def insert(wording: Wording, place: int, word: str) -> Wording:
    """The wording with a word put in before a place; at n, behind the last word.

    >>> text_of(insert(parse("shirt dress, navy"), 2, "new"))
    'shirt dress, new navy'
    """
    words, before = list(wording.words), list(wording.before)
    gap = before[place] if place < len(words) else " " if words else ""
    if place < len(words):
        before[place] = " "
    return wording._replace(
        words=(*words[:place], word, *words[place:]),
        before=(*before[:place], gap, *before[place:]),
        origin=(*wording.origin[:place], INSERTED, *wording.origin[place:]),
    )


def changed(original: Wording, edited: Wording) -> list[int]:
    """Places in the edited wording of words that are new."""
    return [
        place
        for place, (word, origin) in enumerate(zip(edited.words, edited.origin, strict=True))
        if origin == INSERTED or word != original.words[origin]
    ]


def new_words(original: Wording, edited: Wording) -> list[str]:
    """The new words, as they come."""
    return [edited.words[place] for place in changed(original, edited)]


def marked(original: Wording, edited: Wording) -> str:
    """The edited text with the new words in [brackets].

    >>> slim = parse("slim dress")
    >>> marked(slim, insert(slim, 1, "new"))
    'slim [new] dress'
    """
    shown: Sequence[str] = edited.words
    new = set(changed(original, edited))
    words = tuple(f"[{word}]" if place in new else word for place, word in enumerate(shown))
    return text_of(edited._replace(words=words))


def parts(text: str, new: Sequence[str]) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it is one of the new words.

    >>> parts("slim new dress", ["new"])
    [('slim ', False), ('new', True), (' dress', False)]
    """
    wanted, found, end = {word.lower() for word in new}, [], 0
    for match in _WORD.finditer(text):
        if match.group().lower() in wanted:
            found += [(text[end : match.start()], False), (match.group(), True)]
            end = match.end()
    return [piece for piece in [*found, (text[end:], False)] if piece[0]]
