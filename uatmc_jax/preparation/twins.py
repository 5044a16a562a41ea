"""Encoders that can be differentiated: what an edit of a picture or a text follows uphill.

A twin is the encoder itself as a function of torch, not a copy of it: what `prepare` wrote
and what `edit` climbs are the same numbers. Torch is imported where a twin is made, so that
everything else works without it.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class ImageTwin(NamedTuple):
    """A picture's features with their derivative.

    Attributes:
      forward: torch (n, 3, H, W) float32 of 0 to 255 -> torch (n, dim), differentiable.
      quick: n torch (1, 3, H, W) of any sizes -> (n, dim), the same but for rounding, arranged
        so that derivatives cost less: for steps of a search, never for what is counted. None
        where `forward` is as quick.
    """

    forward: Callable[[Any], Any]
    quick: Callable[[Sequence[Any]], Any] | None = None


class Saliency(NamedTuple):
    """How a text's feature moves with the vectors its tokens are read as.

    Attributes:
      spans: (tokens, 2) int, where in the text each token is; (0, 0) for special ones.
      gradients: (tokens, e) of the cotangent's product with the feature.
      vectors: (tokens, e) that they are read as.
    """

    spans: np.ndarray
    gradients: np.ndarray
    vectors: np.ndarray


class Vocabulary(NamedTuple):
    """The words that are one token each.

    Attributes:
      words: (V,) lower-case letters alone.
      vectors: (V, e) what they are read as.
    """

    words: list[str]
    vectors: np.ndarray


class TextTwin(NamedTuple):
    """A text's features with their derivative by token.

    Attributes:
      saliency: (n texts, cotangent: torch (n, dim) -> torch (n, dim)) -> n `Saliency`.
      vocabulary: words to put in.
      placeholder: a word that stands where one is to be put in.
    """

    saliency: Callable[[Sequence[str], Callable[[Any], Any]], list[Saliency]]
    vocabulary: Vocabulary
    placeholder: str


def weights_digest(module: Any) -> str:
    """SHA-256 of a torch module's parameters and buffers, by name (64 hex digits)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        digest.update(values)
    return digest.hexdigest()


def sentence_twin(model: Any) -> TextTwin:
    """The twin of a sentence-transformers model whose tokens have places in the text.

    Args:
      model: as loaded.
    """
    import torch

    tokenizer = model.tokenizer
    table = model[0].auto_model.get_input_embeddings()
    places = {word: place for word, place in tokenizer.get_vocab().items() if _is_word(word)}
    words = sorted(places)
    vectors = table.weight.detach().cpu().numpy()[[places[word] for word in words]]

    def saliency(texts: Sequence[str], cotangent: Callable[[Any], Any]) -> list[Saliency]:
        read: list[Any] = []

        def keep(module: Any, given: Any, output: Any) -> Any:
            leaf = output.detach().requires_grad_(True)
            read.append(leaf)
            return leaf

        batch = tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=model.max_seq_length,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = batch.pop("offset_mapping").numpy()
        hook = table.register_forward_hook(keep)
        try:
            with torch.enable_grad():
                feature = model({name: part.to(model.device) for name, part in batch.items()})
                feature = feature["sentence_embedding"]
                feature.backward(cotangent(feature.detach()))
        finally:
            hook.remove()
        (leaf,) = read
        rows = zip(spans, leaf.grad.cpu().numpy(), leaf.detach().cpu().numpy(), strict=True)
        return [Saliency(*row) for row in rows]

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    placeholder = tokenizer.mask_token or words[0]
    return TextTwin(saliency, Vocabulary(words, vectors), placeholder)


def _is_word(token: str) -> bool:
    return len(token) > 2 and token.isascii() and token.isalpha() and token.islower()
