"""The published recipe: a Gaussian readout trained by stochastic gradient descent on a frozen core.

Lurz et al. 2021, section 3: Poisson loss, L1 on the feature weights, Adam, early stopping on the
validation correlation with two decays of the learning rate. Since the core is frozen, its features
are computed once and not once per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mousev1.core.inference import fuse
from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore, as_core
from mousev1.fit.readout_training import FeatureTrials, ScanTrials, Step, train_readouts
from mousev1.fit.settings import SGDSettings
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    normalise_cortex,
)


@dataclass(frozen=True)
class SGDFit:
    """What the recipe arrived at.

    Attributes:
        readout: with the weights of the best epoch, in evaluation mode.
        core: the core given, or its copy with moved batch-norm statistics.
        validation_correlation: of the best epoch, mean over neurons.
        epochs: how many were run.
    """

    readout: GaussianReadout
    core: FrozenCore
    validation_correlation: float
    epochs: int


def fit_sgd(
    core: FrozenCore,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    cortex: Tensor | None,
    *,
    settings: SGDSettings,
    seed: int,
    device: torch.device,
    progress: bool,
) -> SGDFit:
    """Train a readout with the published recipe.

    Args:
        core: frozen.
        train: images (N, C_in, H, W) and responses (N, U) divided by their scale.
        validation: the same, of other images.
        cortex: (U, 2) or (U, 3) cortical positions, or None for free positions.
        settings: hyperparameters.
        seed: of the initial parameters, the order of the images and the sampled positions.
        device: where to compute.
        progress: show a progress bar.

    Returns:
        Everything is on ``device``.
    """
    followers: list[nn.Module] = []
    if settings.batchnorm == "batch":
        follower = as_core(core, "batchnorm='batch'").thawed_copy().requires_grad_(False).to(device)
        followers.append(follower)
        core = follower
    core = core.to(device)
    trials = ScanTrials(
        _trials(core, *train, settings),
        _trials(core, *validation, settings),
        settings.loss_trials or len(train[0]),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed accelerators, too
        readout = _new_readout(core, train[1], cortex, settings)
    generator = torch.Generator(device).manual_seed(seed)
    shuffler = torch.Generator().manual_seed(seed)

    def steps(_: int) -> Iterator[Step]:
        for chosen in torch.randperm(len(train[0]), generator=shuffler).split(settings.batch_size):
            yield [(chosen, generator)]

    with tqdm(total=settings.max_epochs, desc="fit (sgd)", unit="epoch", disable=not progress) as bar:

        def report(score: float, best: float) -> None:
            bar.update()
            bar.set_postfix_str(f"validation correlation {score:.4f}, best {best:.4f}")

        readouts = [readout.to(device)]
        fitted = train_readouts(readouts, [trials], settings, steps, followers=followers, report=report)
    for moved in followers:
        assert isinstance(moved, Core)
        moved.freeze().name = f"{moved.name} (batch norm of the fit)"
    return SGDFit(readout, core, fitted.validation_correlation, fitted.epochs)


def _new_readout(
    core: FrozenCore, responses: Tensor, cortex: Tensor | None, settings: SGDSettings
) -> GaussianReadout:
    units = responses.shape[1]
    positions = (
        FreePositions(units)
        if cortex is None
        else CortexPositions(normalise_cortex(cortex), PositionNetwork(settings.position_network))
    )
    weights = FeatureWeights(units, core.config.hidden_channels)
    readout = GaussianReadout(positions, weights, init_sigma=settings.init_sigma)
    with torch.no_grad():
        readout.bias.copy_(responses.mean(dim=0))
    return readout


def _trials(core: FrozenCore, images: Tensor, responses: Tensor, settings: SGDSettings) -> FeatureTrials:
    """One trial per image; features are computed once, or anew for every batch where batch norm follows it."""
    features: Callable[[Tensor], Tensor]
    if settings.batchnorm == "batch":
        moving = as_core(core, "batchnorm='batch'")

        def features(chosen: Tensor) -> Tensor:
            part = images[chosen]
            if moving.training:
                out: Tensor = moving(part.to(moving.device, torch.float32))
                return out
            return core_features(moving, part, settings.batch_size)
    else:
        known = core_features(core, images, settings.batch_size)

        def features(chosen: Tensor) -> Tensor:
            return known[chosen.to(known.device)]

    return FeatureTrials(features, torch.arange(len(images)), responses.to(core.device))


@torch.no_grad()
def core_features(core: FrozenCore, images: Tensor, batch_size: int) -> Tensor:
    """Features (N, C, H', W') of all images at once, float32, on the core's device."""
    run = fuse(core)
    return torch.cat([run(chunk.to(core.device, torch.float32)) for chunk in images.split(batch_size)])
