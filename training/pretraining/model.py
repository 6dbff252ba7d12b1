"""What is pretrained: a core and one readout per scan, of a kind in one visible table of builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from mousev1.core.network import Core, CoreConfig
from mousev1.errors import check_choice
from mousev1.fit.readout_training import TrainableReadout
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    SharedFeatureWeights,
    normalise_cortex,
)
from training.networks.factorized import FactorizedReadout, start_small
from training.networks.fully_connected import FullyConnectedReadout
from training.pretraining.config import PretrainConfig, ReadoutConfig
from training.pretraining.data import INIT_STREAM, PretrainScan, generator_for


class PretrainModel(nn.Module):
    """A core and one readout per scan."""

    def __init__(self, core: Core, readouts: nn.ModuleList) -> None:
        super().__init__()
        self.core = core
        self.readouts = readouts

    def readout(self, scan: int) -> TrainableReadout:
        """The readout of a scan, by its number."""
        return cast(TrainableReadout, self.readouts[scan])


def build_model(config: PretrainConfig, scans: list[PretrainScan]) -> PretrainModel:
    """An untrained model; the same numbers for the same seed and scans."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator_for((config.seed, INIT_STREAM)).get_state())
        core = Core(config.core, name=config.name)
        return PretrainModel(core, build_readouts(scans, config.core, config.readout))


def gaussian_readouts(
    scans: list[PretrainScan], core: CoreConfig, config: ReadoutConfig
) -> list[GaussianReadout]:
    """One Gaussian readout per scan; ``ValueError`` for cortical positions or match ids that a scan lacks."""
    weights = _feature_weights(scans, core.hidden_channels, config)
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
        readouts.append(readout)
    return readouts


def factorized_readouts(
    scans: list[PretrainScan], core: CoreConfig, config: ReadoutConfig
) -> list[FactorizedReadout]:
    """One factorized readout per scan; ``ValueError`` if cortical positions or missing match ids are asked for."""
    _check_no_cortex(config)
    channels, height, width = core.feature_shape(core.input.height, core.input.width)
    weights = _feature_weights(scans, channels, config)
    for features in weights:
        start_small(features)
    return [FactorizedReadout(features, height, width) for features in weights]


def fully_connected_readouts(
    scans: list[PretrainScan], core: CoreConfig, config: ReadoutConfig
) -> list[FullyConnectedReadout]:
    """One fully connected readout per scan; ``ValueError`` if cortical positions or shared features are asked for."""
    _check_no_cortex(config)
    if config.share_features:
        raise ValueError(
            "readout.share_features: a fully connected readout has no feature weights apart from positions; set "
            "share_features = false"
        )
    shape = core.feature_shape(core.input.height, core.input.width)
    return [FullyConnectedReadout(scan.units, *shape) for scan in scans]


def _check_no_cortex(config: ReadoutConfig) -> None:
    if config.cortex:
        raise ValueError(
            f"readout.cortex: a {config.kind} readout takes no cortical positions; set cortex = false"
        )


def _feature_weights(
    scans: list[PretrainScan], channels: int, config: ReadoutConfig
) -> Sequence[FeatureWeights | SharedFeatureWeights]:
    if config.share_features:
        return shared_weights(scans, channels)
    return [FeatureWeights(scan.units, channels) for scan in scans]


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


Builder = Callable[[list[PretrainScan], CoreConfig, ReadoutConfig], Sequence[TrainableReadout]]

BUILDERS: dict[str, Builder] = {
    "gaussian": gaussian_readouts,
    "factorized": factorized_readouts,
    "fully-connected": fully_connected_readouts,
}
"""``readout.kind`` of a config to what builds one readout per scan."""


def build_readouts(scans: list[PretrainScan], core: CoreConfig, config: ReadoutConfig) -> nn.ModuleList:
    """One readout per scan, in their order, of the kind that the config names.

    Biases start at the mean responses.
    """
    check_choice("readout.kind", config.kind, BUILDERS)
    readouts = BUILDERS[config.kind](scans, core, config)
    for scan, readout in zip(scans, readouts, strict=True):
        with torch.no_grad():
            readout.bias.copy_(scan.mean_response)
    return nn.ModuleList(cast(Sequence[nn.Module], readouts))
