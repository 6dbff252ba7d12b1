"""Which readouts a core can be pretrained with: one visible table of builders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mousev1.core import CoreConfig
from mousev1.errors import check_choice
from mousev1.readout import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    SharedFeatureWeights,
    normalise_cortex,
)
from training.config import ReadoutConfig
from training.data import PretrainScan


def gaussian_readouts(
    scans: list[PretrainScan], core: CoreConfig, config: ReadoutConfig
) -> list[GaussianReadout]:
    """One Gaussian readout per scan; parameters start random, from torch's generator.

    Raises:
        ValueError: the config asks for cortical positions or match ids that a scan lacks.
    """
    channels = core.hidden_channels
    weights: list[FeatureWeights | SharedFeatureWeights]
    if config.share_features:
        weights = [*shared_weights(scans, channels)]
    else:
        weights = [FeatureWeights(scan.units, channels) for scan in scans]
    readouts = []
    for scan, features in zip(scans, weights, strict=True):
        positions: FreePositions | CortexPositions
        if not config.cortex:
            positions = FreePositions(scan.units, init_range=config.init_range)
        elif scan.cortex is None:
            raise ValueError(
                f"readout.cortex: scan '{scan.name}' has no cortical positions; set cortex = false"
            )
        else:
            positions = CortexPositions(
                normalise_cortex(scan.cortex), PositionNetwork(config.position_network)
            )
        readout = GaussianReadout(positions, features, init_sigma=config.init_sigma)
        with torch.no_grad():
            readout.bias.copy_(scan.mean_response)
        readouts.append(readout)
    return readouts


def shared_weights(scans: list[PretrainScan], channels: int) -> list[SharedFeatureWeights]:
    """Feature weights of every scan, equal for the same neuron up to a scale per scan.

    All scans draw on one bank with a row per distinct neuron.
    """
    neurons = sorted({neuron for scan in scans for neuron in scan.neurons})
    if len(neurons) == sum(scan.units for scan in scans):
        raise ValueError(
            "readout.share_features: no neuron is in two of these scans (equal match id, same animal); set "
            "share_features = false"
        )
    row = {neuron: i for i, neuron in enumerate(neurons)}
    bank = FeatureWeights(len(neurons), channels)
    return [
        SharedFeatureWeights(bank, torch.tensor([row[neuron] for neuron in scan.neurons])) for scan in scans
    ]


Builder = Callable[[list[PretrainScan], CoreConfig, ReadoutConfig], list[GaussianReadout]]

BUILDERS: dict[str, Builder] = {"gaussian": gaussian_readouts}
"""``readout.kind`` of a config to what builds one readout per scan.

What a builder returns must have the methods of ``GaussianReadout`` that training calls: ``forward``
with a generator, ``feature_l1`` and ``project_``.
"""


def build_readouts(scans: list[PretrainScan], core: CoreConfig, config: ReadoutConfig) -> nn.ModuleList:
    """One readout per scan, in their order, of the kind that the config names."""
    check_choice("readout.kind", config.kind, BUILDERS)
    return nn.ModuleList(BUILDERS[config.kind](scans, core, config))
