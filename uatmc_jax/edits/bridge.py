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

from uatmc_jax.edits.harmless import (
    AFTERWARDS_CROP,
    AFTERWARDS_QUALITY,
    AFTERWARDS_SCALE,
    jpeg,
    margins,
    scaled,
)
from uatmc_jax.edits.judge import NARROW, Judge, Judged
from uatmc_jax.edits.pixels import Look, Seen
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


class Beside(NamedTuple):
    """A target with what stands beside the modality that is edited.

    Attributes:
      judge: of the target.
      others: modal, (1, dim_m), the content of the other modalities.
    """

    judge: Judge
    others: Sequence


def cotangent_of(beside: Beside, place: int, width: float = NARROW) -> Callable[[Any], Any]:
    """Torch features (n, dim) -> torch dPhi / df (n, dim).

    Args:
      beside: the target.
      place: of the features' modality.
      width: of Phi, as `Judge.slopes` has it.
    """
    return lambda features: _slopes_of(beside, place, features, width)[1]


def _slopes_of(beside: Beside, place: int, features: Any, width: float) -> tuple[Judged, Any]:
    found, slope = beside.judge.slopes(_with(place, to_jax(features), beside.others), width)
    return found, to_torch(slope[place], features)


def picture_look(targets: Sequence[Beside], coder: Coder, robust: bool = False) -> Look:
    """Pictures (H, W, 3) uint8, one of each target -> what each is worth, with its slope.

    The width of the Phi whose slope it is shrinks from the spread to `NARROW` of it along the
    search: first whatever brings the item nearer to anyone, then whom it takes to get in.

    Args:
      targets: whose pictures they are.
      coder: of the pictures.
      robust: what a picture is worth is the mean over it and what a page does to it, as
        expectation over transformation has it (Athalye et al., 2018).
    """
    twin: ImageTwin = coder.twin

    def look(pictures: Sequence[np.ndarray], along: float) -> list[Seen]:
        leaves = [as_tensor(picture).requires_grad_(True) for picture in pictures]
        views = [one for leaf in leaves for one in (views_of(leaf) if robust else [leaf])]
        each = len(views) // len(leaves)
        features = quick_features(twin, views)
        rows = features.detach()
        found = [
            _slopes_of(target, coder.place, rows[n * each : (n + 1) * each], NARROW**along)
            for n, target in enumerate(targets)
        ]
        features.backward(torch_rows([slope / each for _, slope in found]))
        return [
            Seen(float(judged.hr.mean()), float(judged.value.mean()), _by_pixel(leaf))
            for leaf, (judged, _) in zip(leaves, found, strict=True)
        ]

    return look


def views_of(leaf: Any) -> list[Any]:
    """A picture, torch (1, 3, H, W), and what `harmless.AFTERWARDS` makes of it, differentiable.

    JPEG's derivative is taken to be one (Athalye et al., 2018); rounding is left out.
    """
    import torch

    picture = leaf.detach()[0].permute(1, 2, 0).cpu().numpy().round().astype(np.uint8)
    saved = as_tensor(jpeg(picture, AFTERWARDS_QUALITY)).to(leaf.device)
    rows, columns = margins(picture, AFTERWARDS_CROP)
    size = scaled(picture, AFTERWARDS_SCALE)
    smaller = torch.nn.functional.interpolate(
        leaf, size=size, mode="bicubic", align_corners=False, antialias=True
    )
    cropped = leaf[:, :, rows : leaf.shape[2] - rows, columns : leaf.shape[3] - columns]
    return [leaf, leaf + (saved - leaf).detach(), smaller, cropped]


def quick_features(twin: ImageTwin, leaves: Sequence[Any]) -> Any:
    """(n, dim) torch, differentiable, of pictures (1, 3, H, W) of any sizes."""
    import torch

    if twin.quick is not None:
        return twin.quick(leaves)
    return torch.cat([twin.forward(leaf) for leaf in leaves])


def torch_rows(rows: Sequence[Any]) -> Any:
    """(n, dim) of n (1, dim)."""
    import torch

    return torch.cat(list(rows))


def _by_pixel(leaf: Any) -> np.ndarray:
    return leaf.grad[0].permute(1, 2, 0).cpu().numpy()


class TextBridge(NamedTuple):
    """A listing's text and what a wording of its edited part is worth.

    Attributes:
      beside: the target.
      coder: of the texts.
      compose: edited part -> (the whole text, where in it the part begins).
    """

    beside: Beside
    coder: Coder
    compose: Callable[[str], tuple[str, int]]


def text_slopes(bridge: TextBridge, parts: Sequence[str]) -> list[Saliency]:
    """Phi's slopes by token, with places counted from where the edited part begins."""
    twin: TextTwin = bridge.coder.twin
    composed = [bridge.compose(part) for part in parts]
    cotangent = cotangent_of(bridge.beside, bridge.coder.place)
    found = twin.saliency([text for text, _ in composed], cotangent)
    return [
        each._replace(spans=each.spans - start)
        for each, (_, start) in zip(found, composed, strict=True)
    ]


def text_worth(bridge: TextBridge, clean: np.ndarray, parts: Sequence[str]) -> list[Verified]:
    """What wordings are worth, encoded; `clean` is the original's feature, (dim,)."""
    features = encode_texts(bridge.coder, [bridge.compose(part)[0] for part in parts])
    rows = _with(bridge.coder.place, jnp.asarray(features), bridge.beside.others)
    judged = bridge.beside.judge.rows(rows)
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
