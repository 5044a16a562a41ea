"""From a picture's pixels and a text's tokens to the lists and back: torch and JAX joined.

A feature f(x) is computed by torch; Phi and dPhi / df by JAX; the chain rule goes on in
torch: dPhi / dx = (df / dx)' dPhi / df. Both cross by DLPack, without a copy where the
devices are the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.edits.judge import Judge, Judged, judge_rows, slopes
from uatmc_jax.edits.pixels import Seen
from uatmc_jax.edits.words import Verified
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.lite import as_tensor
from uatmc_jax.preparation.twins import ImageTwin, Saliency, TextTwin


class Coder(NamedTuple):
    """A modality's encoder with its derivative.

    Attributes:
      place: of the modality in the data's order.
      encoder: as `prepare` uses it.
      twin: its derivative.
    """

    place: int
    encoder: Encoder
    twin: Any


def to_jax(tensor: Any) -> jax.Array:
    """A torch tensor as a JAX array, on JAX's default device."""
    found = jnp.from_dlpack(tensor.detach().float().contiguous())
    return jax.device_put(found, jax.devices()[0])


def to_torch(array: jax.Array, like: Any) -> Any:
    """A JAX array as a torch tensor of the kind and on the device of another."""
    import torch

    return torch.from_dlpack(array).to(device=like.device, dtype=like.dtype)


def _with(place: int, rows: jax.Array, others: Sequence) -> tuple[jax.Array, ...]:
    """Modal features: a modality's rows, the others' single rows repeated."""
    n = len(rows)
    return tuple(
        rows if m == place else jnp.broadcast_to(jnp.asarray(x), (n, x.shape[-1]))
        for m, x in enumerate(others)
    )


def cotangent_of(
    judge: Judge, place: int, others: Sequence, judged: list[Judged] | None = None
) -> Callable[[Any], Any]:
    """Torch features (n, dim) -> torch dPhi / df (n, dim).

    Args:
      judge: of the target.
      place: of the features' modality.
      others: modal, (1, dim_m), the content of the other modalities.
      judged: where what the features are worth is put.
    """

    def cotangent(features: Any) -> Any:
        found, slope = slopes(judge, _with(place, to_jax(features), others))
        if judged is not None:
            judged.append(found)
        return to_torch(slope[place], features)

    return cotangent


def picture_look(judge: Judge, coder: Coder, others: Sequence) -> Callable[[np.ndarray], Seen]:
    """(H, W, 3) uint8 -> what it is worth, with its slope; arguments as of `cotangent_of`."""
    twin: ImageTwin = coder.twin

    def look(picture: np.ndarray) -> Seen:
        judged: list[Judged] = []
        leaf = as_tensor(picture).requires_grad_(True)
        feature = twin.forward(leaf)
        feature.backward(cotangent_of(judge, coder.place, others, judged)(feature.detach()))
        slope = leaf.grad[0].permute(1, 2, 0).cpu().numpy()
        return Seen(float(judged[0].hr[0]), float(judged[0].value[0]), slope)

    return look


class TextBridge(NamedTuple):
    """A listing's text and what a wording of its edited part is worth.

    Attributes:
      judge: of the target.
      coder: of the texts.
      compose: edited part -> (the whole text, where in it the part begins).
      others: modal, (1, dim_m), the content of the other modalities.
    """

    judge: Judge
    coder: Coder
    compose: Callable[[str], tuple[str, int]]
    others: Sequence


def text_slopes(bridge: TextBridge, parts: Sequence[str]) -> list[Saliency]:
    """Phi's slopes by token, with places counted from where the edited part begins."""
    twin: TextTwin = bridge.coder.twin
    composed = [bridge.compose(part) for part in parts]
    cotangent = cotangent_of(bridge.judge, bridge.coder.place, bridge.others)
    found = twin.saliency([text for text, _ in composed], cotangent)
    return [
        each._replace(spans=each.spans - start)
        for each, (_, start) in zip(found, composed, strict=True)
    ]


def text_worth(bridge: TextBridge, clean: np.ndarray, parts: Sequence[str]) -> list[Verified]:
    """What wordings are worth, encoded; `clean` is the original's feature, (dim,)."""
    features = encode_texts(bridge.coder, [bridge.compose(part)[0] for part in parts])
    rows = _with(bridge.coder.place, jnp.asarray(features), bridge.others)
    judged = judge_rows(bridge.judge, rows)
    cosine = (
        features
        @ clean
        / np.maximum(np.linalg.norm(features, axis=1) * np.linalg.norm(clean), 1e-30)
    )
    return [
        Verified(Seen(float(hr), float(value)), float(c))
        for hr, value, c in zip(judged.hr, judged.value, cosine, strict=True)
    ]


def encode_texts(coder: Coder, texts: Sequence[str]) -> np.ndarray:
    """(n, dim) float32."""
    return np.asarray(coder.encoder.encode(list(texts)), np.float32)


def encode_pictures(coder: Coder, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(n, dim) float32 of (H, W, 3) uint8 pictures."""
    return np.asarray(coder.encoder.encode(list(pictures)), np.float32)
