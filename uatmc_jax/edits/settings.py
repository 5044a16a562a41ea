"""What an evaluation by edits is asked for, as values."""

import dataclasses
import pathlib

from uatmc_jax.edits.pixels import SEARCHES
from uatmc_jax.edits.words import WordSearch
from uatmc_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditSettings:
    """Which items are edited, and how far.

    Attributes:
      images: folder of the pictures that the data set was prepared from; None where no
        picture is edited.
      items: the items' table that it was prepared from; None where no text is edited.
      column: of `items`, whose text is edited; "" for the title's.
      ids: shop's ids, titles or "#908" of the items to edit; () to draw some.
      sample: how many to draw of the less popular half; 0 for all of it.
      seed: of the draw.
      k: K of the hit rate.
      serving: what the recommender computes anew once an item is edited, "own_row" or "full".
      radii: of the pixels' balls, in steps of 1/255, ascending.
      norm: of the pixels' balls, "linf" or "l2".
      search: of the pixels, "pgd" with momentum or "apgd".
      steps: on the pixels in the smallest ball, and in the coordinated search; half as many
        in larger ones.
      robust: seek pixels that outlast JPEG, resizing and a crop (`harmless.AFTERWARDS`).
      rounds: of the coordinated search: words, then pixels, each with the other's best.
      words: how far the search for words goes.
      word_similarity: least cosine of a replaced word and the new one; not asked for with
        `synonyms`.
      synonyms: folder of WordNet's files; a word is then replaced by a synonym alone.
      any_word: put in whatever the encoder has as one token; else sellers' words and the
        catalogue's.
      yardstick: items whose harmless edits are measured.
      eps: budget on z that edits are held against, as a share of its length.
    """

    images: pathlib.Path | None = None
    items: pathlib.Path | None = None
    column: str = ""
    ids: tuple[str, ...] = ()
    sample: int = 10
    seed: int = 0
    k: int = 20
    serving: str = "full"
    radii: tuple[float, ...] = (4.0, 8.0)
    norm: str = "linf"
    search: str = "pgd"
    steps: int = 16
    robust: bool = False
    rounds: int = 1
    words: WordSearch = dataclasses.field(default_factory=WordSearch)
    word_similarity: float = 0.4
    synonyms: pathlib.Path | None = None
    any_word: bool = False
    yardstick: int = 50
    eps: float = 0.1

    def __post_init__(self):
        _require(self.images or self.items, "--images and --items: neither is given. Give one")
        _require(self.norm in ("linf", "l2"), f"--norm {self.norm}: wanted linf or l2")
        right = self.serving in ("own_row", "full")
        _require(right, f"--serving {self.serving}: wanted own_row or full")
        _require(self.search in SEARCHES, f"--search {self.search}: wanted pgd or apgd")
        rising = all(a < b for a, b in zip(self.radii, self.radii[1:], strict=False))
        least = 1 if self.norm == "linf" else 0.5
        right = self.radii and rising and least <= self.radii[0] and self.radii[-1] <= 255
        _require(right, f"--radii: wanted rising numbers from {least} to 255, got {self.radii}")
        for name in ("k", "steps", "yardstick"):
            _require(getattr(self, name) >= 1, f"--{name}: wanted at least 1")
        for name in ("rounds", "sample", "seed"):
            _require(getattr(self, name) >= 0, f"--{name}: wanted at least 0")
        _require(self.words.max_words >= 1, "--max-words: wanted at least 1")
        _require(0 < self.eps <= 2, "--eps: wanted a share above 0, at most 2")


def _require(right: object, message: str) -> None:
    if not right:
        raise InputError(f"{message}.")
