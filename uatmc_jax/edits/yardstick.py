"""How far harmless edits move content: the unit that budgets are told in.

What an edit makes of an item's raw features is the same whatever the model, so it is encoded
once; how far that moves z is a model's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.attacks.victim import Victim
from uatmc_jax.edits import harmless
from uatmc_jax.edits.bridge import Coder, encode_pictures, encode_texts
from uatmc_jax.edits.judge import projected
from uatmc_jax.edits.listings import Listing, compose
from uatmc_jax.edits.measure import displacement

_MEASURES = ("l2", "linf", "raw")


class HarmlessEdits(NamedTuple):
    """Harmless edits of n items, E = n times the edits of a kind, an item's one after another.

    Attributes:
      items: {kind: (E,) int32}.
      before: {kind: (E, dim_m) float32}.
      features: {kind: (E, dim_m) float32 after the edit}.
    """

    items: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    features: Mapping[str, np.ndarray]


def encode_harmless(
    coders: Mapping[str, Coder], listings: Sequence[Listing], stored: Sequence[np.ndarray]
) -> HarmlessEdits:
    """Edits items harmlessly and encodes them.

    Args:
      coders: by kind.
      listings: of the items.
      stored: modal, raw, (|I|, dim_m).
    """
    items, before, features = {}, {}, {}
    for kind, coder in coders.items():
        numbers = np.array([listing.item for listing in listings], np.int32)
        items[kind] = np.repeat(numbers, len(_edits(kind)))
        before[kind] = np.asarray(stored[coder.place])[items[kind]]
        features[kind] = np.concatenate([_encoded(coder, kind, one) for one in listings])
    return HarmlessEdits(items, before, features)


def _edits(kind: str) -> Mapping[str, Any]:
    return harmless.PICTURES if kind == "image" else harmless.TEXTS


def _encoded(coder: Coder, kind: str, listing: Listing) -> np.ndarray:
    changes = _edits(kind).values()
    if kind == "image":
        return encode_pictures(coder, [change(listing.picture) for change in changes])
    return encode_texts(coder, [compose(listing, change(listing.title))[0] for change in changes])


def moved_by(
    edits: HarmlessEdits, coders: Mapping[str, Coder], victim: Victim, items: np.ndarray
) -> dict[str, Any]:
    """How far they move a model's content: {kind: {edit: {measure: quantiles}}}.

    Args:
      edits: of `encode_harmless`.
      coders: by kind.
      victim: the clean model.
      items: the same ones, in the same order.
    """
    found: dict[str, Any] = {}
    for kind, coder in coders.items():
        moves: dict[str, list] = {name: [] for name in _edits(kind)}
        each, place = np.split(edits.features[kind], len(items)), coder.place
        for item, features in zip(items.tolist(), each, strict=True):
            rows = [
                np.repeat(x[[item]], 1 + len(features), axis=0) for x in victim.dataset.features
            ]
            rows[place][1:] = features
            (clean, *z), raw = projected(victim, rows)[place], rows[place][0]
            for some, after, row in zip(moves.values(), z, features, strict=True):
                some.append(displacement((clean, after), (raw, row)))
        found[kind] = {
            name: {m: harmless.quantiles([move[m] for move in some]) for m in _MEASURES}
            for name, some in moves.items()
        }
    return found
