"""Parameters per readout, the paper's comparison: ``python -m training.measurements.parameter_count``.

Lurz et al. 2021, section 2.2: the Gaussian readout needs a small fraction of the numbers of the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from mousev1.fit.readout_training import TrainableReadout
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
)
from training.networks.factorized import FactorizedReadout
from training.networks.fully_connected import FullyConnectedReadout


@dataclass(frozen=True)
class Size:
    """Neurons N, and channels c, height h and width w of the feature map."""

    units: int = 1000
    channels: int = 64
    height: int = 22
    width: int = 50

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True)
class Row:
    """One readout of the table: its name, the paper's formula in words and for a size, and what builds it.

    The formula leaves out the position network; ``bias_in_formula`` says whether it counts the bias, one per neuron.
    """

    name: str
    formula: str
    expected: Callable[[Size], int]
    build: Callable[[Size], TrainableReadout]
    bias_in_formula: bool


def weights(size: Size) -> FeatureWeights:
    """Feature weights of this size."""
    return FeatureWeights(size.units, size.channels)


TABLE = (
    Row(
        "fully connected",
        "N * c * h * w",
        lambda s: s.units * s.channels * s.height * s.width,
        lambda s: FullyConnectedReadout(s.units, s.channels, s.height, s.width),
        bias_in_formula=False,
    ),
    Row(
        "factorized",
        "N * (c + h * w)",
        lambda s: s.units * (s.channels + s.height * s.width),
        lambda s: FactorizedReadout(weights(s), s.height, s.width),
        bias_in_formula=False,
    ),
    Row(
        "Gaussian",
        "N * (c + 7)",
        lambda s: s.units * (s.channels + 7),
        lambda s: GaussianReadout(FreePositions(s.units), weights(s)),
        bias_in_formula=True,
    ),
    Row(
        "Gaussian with retinotopy",
        "N * (c + 5) + network",
        lambda s: s.units * (s.channels + 5),
        lambda s: GaussianReadout(CortexPositions(torch.zeros(s.units, 2), PositionNetwork()), weights(s)),
        bias_in_formula=True,
    ),
)


@dataclass(frozen=True)
class Count:
    """Numbers counted in a built readout: bias, one per neuron; of the position network; all others."""

    weights: int
    bias: int
    network: int


def count(row: Row, size: Size) -> Count:
    """Count the trainable numbers of a readout, which is built without memory for its values."""
    with torch.device("meta"):
        readout = row.build(size)
    assert isinstance(readout, torch.nn.Module)
    numbers = {name: parameter.numel() for name, parameter in readout.named_parameters()}
    network = sum(n for name, n in numbers.items() if name.startswith("positions.network."))
    return Count(sum(numbers.values()) - numbers["bias"] - network, numbers["bias"], network)


def table(size: Size) -> str:
    """The table as text: the paper's formulas beside what the built modules hold."""
    rows = [("readout", "formula", "formula gives", "counted, without bias", "bias", "network", "per neuron")]
    for row in TABLE:
        found, expected = count(row, size), row.expected(size)
        all_numbers = found.weights + found.bias + found.network
        rows.append(
            (
                row.name,
                row.formula + (" (with bias)" if row.bias_in_formula else " (without bias)"),
                f"{expected + found.network:,}",
                f"{found.weights:,}",
                f"{found.bias:,}",
                f"{found.network:,}",
                f"{all_numbers / size.units:,.1f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            entry.ljust(width) if i < 2 else entry.rjust(width)
            for i, (entry, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    note = (
        f"N = {size.units:,} neurons, feature map of c = {size.channels} channels, h = {size.height}, "
        f"w = {size.width}.\n"
        "c + 7: c feature weights, 2 for the position, 4 for the Gaussian's spread, 1 bias. c + 5: the position "
        "comes from the network.\nThe paper's first two formulas leave out the bias, of which every readout here "
        "has one per neuron; 'per neuron' counts everything."
    )
    return "\n".join([*lines, "", note])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0, or 1 after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.measurements.parameter_count",
        description="Parameters per readout, counted in the modules, next to the paper's formulas. The default "
        "is the feature map of the 11-S core for images of 36 x 64 pixels.",
    )
    for field in fields(Size):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        print(table(Size(**vars(options))))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
