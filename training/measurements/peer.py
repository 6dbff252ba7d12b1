"""The published transfer recipe, run with its authors' own library: what mousev1 is measured against.

neuralpredictors 0.3.0 (Sinz lab) provides core, readout, loss and early stopping. The settings are
those of Lurz et al. 2021, "Generalization in data-driven models of primary visual cortex", ICLR, and
of its code (github.com/sinzlab/nnsysident; for transfer github.com/sinzlab/Lurz_2020_code,
notebooks/example.ipynb). The core's features are recomputed in every epoch, as in that code.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib.util
import math
import re
import sys
import time
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.fit.settings import SGDSettings

Array = npt.NDArray[Any]

PEER_VERSION = "0.3.0"
INIT_MU_RANGE = 0.3  # without cortical positions, mu starts uniformly within +- this

# Core of mousev1 -> name in neuralpredictors
PEER_NAMES = (
    (r"^layers\.(\d+)\.pointwise_in\.", r"features.layer\1.ds_conv.in_depth_conv."),
    (r"^layers\.(\d+)\.depthwise\.", r"features.layer\1.ds_conv.spatial_conv."),
    (r"^layers\.(\d+)\.pointwise_out\.", r"features.layer\1.ds_conv.out_depth_conv."),
    (r"^layers\.(\d+)\.", r"features.layer\1."),
)
LAPLACE_FILTER = "_input_weights_regularizer.laplace.filter"


def import_peer() -> SimpleNamespace:
    """The parts of the authors' library in use here; ``ImportError`` with the remedy if it is not installed.

    Version 0.3.0 needs two things that a current environment lacks while it is imported:
    ``collections.Iterable``, gone since Python 3.10, and torchvision, which nothing here uses.
    """
    if importlib.util.find_spec("neuralpredictors") is None:
        raise ImportError(
            f"neuralpredictors is not installed; to compare with it, run "
            f"`python -m pip install neuralpredictors=={PEER_VERSION}`"
        )
    with _world_of_2022(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from neuralpredictors.layers.cores import SE2dCore
        from neuralpredictors.layers.encoders import FiringRateEncoder
        from neuralpredictors.layers.readouts import FullGaussian2d, SpatialXFeatureLinear
        from neuralpredictors.measures import np_functions
        from neuralpredictors.measures.modules import PoissonLoss
        from neuralpredictors.regularizers import LaplaceL2norm
        from neuralpredictors.training import early_stopping
    return SimpleNamespace(
        core=SE2dCore,
        readout=FullGaussian2d,
        factorized=SpatialXFeatureLinear,
        encoder=FiringRateEncoder,
        loss=PoissonLoss,
        early_stopping=early_stopping,
        laplace_l2_norm=LaplaceL2norm,
        measures=np_functions,
    )


class Epoch(NamedTuple):
    """One epoch of training; times, of the clock and of all threads, include its validation."""

    number: int
    seconds: float
    processor_seconds: float
    validation_correlation: float
    learning_rate: float


@dataclass(frozen=True)
class PeerFit:
    """A model trained with the authors' library: a ``FiringRateEncoder`` in evaluation mode.

    A rate of 1 is ``response_scale`` (U,) in the units of the recorded responses.
    """

    model: nn.Module
    contract: InputContract
    response_scale: Tensor
    epochs: Sequence[Epoch] = ()

    @torch.no_grad()
    def predict(self, images: Array, *, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """(N, C, H, W) gray values to (N, U) rates, in the units of the recorded responses."""
        standardised = standardise(images, self.contract)
        rates = torch.cat([self.model(batch) for batch in standardised.split(batch_size)])
        out: npt.NDArray[np.float32] = (rates * self.response_scale).numpy()
        return out


def fit_peer(
    core: Core,
    train: tuple[Array, Array],
    validation: tuple[Array, Array],
    positions: Array | None,
    *,
    settings: SGDSettings,
    seed: int,
) -> PeerFit:
    """Train a readout on a copy of a core with the published recipe; all that is random comes from the seed.

    Images are (N, C, H, W), gray values in the core's range, responses (N, U), unscaled, and cortical positions
    (U, 2) or (U, 3), of which the first two columns count.
    """
    contract, scale = core.config.input, response_scale(train[1])
    images, responses = standardise(train[0], contract), torch.from_numpy(train[1] / scale).float()
    evaluation = _Evaluation(standardise(validation[0], contract), validation[1] / scale, settings.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(core, images, responses.mean(dim=0), positions, settings=settings)
        _train(model, images, responses, evaluation, settings)
    return PeerFit(model.eval(), contract, torch.from_numpy(scale).float(), evaluation.epochs)


class _Evaluation:
    """The validation correlation that stops training; it also keeps the time of every epoch."""

    def __init__(self, images: Tensor, responses: Array, batch_size: int) -> None:
        self.epochs: list[Epoch] = []
        self._images, self._batch_size = images, batch_size
        self._responses = np.asarray(responses, dtype=np.float32)
        self._begun: tuple[int, float, float, float] | None = None

    def begin(self, epoch: int, learning_rate: float) -> None:
        """An epoch begins, which ends with the next evaluation."""
        self._begun = epoch, learning_rate, time.perf_counter(), time.process_time()

    def __call__(self, model: nn.Module) -> float:
        """Mean correlation over neurons, 0 for those where it is undefined."""
        with torch.no_grad():
            rates = torch.cat([model(batch) for batch in self._images.split(self._batch_size)])
        correlations = import_peer().measures.corr(self._responses, rates.numpy(), axis=0)
        value = float(np.nan_to_num(correlations).mean())
        # early_stopping also evaluates when it restores a state; only the first is an epoch's
        if self._begun is not None:
            number, rate, began, busy = self._begun
            took = time.perf_counter() - began, time.process_time() - busy
            self.epochs.append(Epoch(number, *took, value, rate))
            self._begun = None
        return value


def _train(
    model: Any, images: Tensor, responses: Tensor, evaluation: _Evaluation, settings: SGDSettings
) -> None:
    """The recipe's loop: epochs until the evaluation no longer gets better; the best state stays."""
    peer = import_peer()
    optimizer = torch.optim.Adam(model.readout.parameters(), lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=settings.decay,
        patience=settings.patience,
        threshold=settings.tolerance,
        threshold_mode="abs",
        min_lr=settings.min_learning_rate,
    )
    model.train()
    epochs = peer.early_stopping(
        model,
        evaluation,
        interval=1,
        patience=settings.patience,
        max_iter=settings.max_epochs,
        maximize=True,
        tolerance=settings.tolerance,
        restore_best=True,
        scheduler=scheduler,
        lr_decay_steps=settings.rounds,
    )
    poisson, trials = peer.loss(avg=False), settings.loss_trials or len(images)
    for epoch, _ in epochs:
        evaluation.begin(epoch, optimizer.param_groups[0]["lr"])
        model.core.train(settings.batchnorm == "batch")
        for chosen in torch.split(torch.randperm(len(images)), settings.batch_size):
            rates = model(images[chosen], detach_core=True)
            likelihood = poisson(output=rates, target=responses[chosen])
            loss = math.sqrt(trials / len(chosen)) * likelihood + model.readout.regularizer()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def build_model(
    core: Core, images: Tensor, mean_response: Tensor, positions: Array | None, *, settings: SGDSettings
) -> Any:
    """An untrained ``FiringRateEncoder`` on a copy of the core; random parameters come from torch's generator.

    Images (N, C, H, W) count for their shape; the biases start from the (U,) mean responses.
    """
    peer = import_peer()
    predictor = None
    if positions is not None:
        predictor = {"hidden_layers": 0, "hidden_features": 0, "final_tanh": False}
    readout = peer.readout(
        in_shape=core.config.feature_shape(*images.shape[2:]),
        outdims=len(mean_response),
        bias=True,
        init_mu_range=INIT_MU_RANGE,
        init_sigma=settings.init_sigma,
        gauss_type="full",
        grid_mean_predictor=predictor,
        source_grid=None if positions is None else np.asarray(positions, dtype=np.float64)[:, :2],
        mean_activity=mean_response.clone(),
        feature_reg_weight=settings.feature_l1,
    )
    if positions is not None:
        nn.init.orthogonal_(readout.mu_transform[0].weight, gain=settings.position_network.init_scale)
        nn.init.zeros_(readout.mu_transform[0].bias)
    return peer.encoder(core=build_core(core.config, peer_core_state(core)), readout=readout)


def build_core(config: CoreConfig, state: Mapping[str, Tensor]) -> Any:
    """The authors' ``SE2dCore``, fixed, in evaluation mode, with a whole state dict as they publish it."""
    core = import_peer().core(
        input_channels=config.input_channels,
        hidden_channels=config.hidden_channels,
        input_kern=config.input_kernel,
        hidden_kern=config.hidden_kernel,
        layers=config.layers,
        gamma_input=0.0,
        momentum=config.batch_norm_momentum,
        pad_input=False,
        stack=-1,
        depth_separable=True,
    )
    core.load_state_dict(state, strict=True)
    return core.requires_grad_(False).eval()


def peer_core_state(core: Core) -> dict[str, Tensor]:
    """The weights of a core under the authors' names, with the constant filter of their regulariser."""
    laplacian = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
    state = {LAPLACE_FILTER: laplacian[None, None]}
    for name, tensor in core.state_dict().items():
        for pattern, replacement in PEER_NAMES:
            name, found = re.subn(pattern, replacement, name)
            if found:
                break
        state[name] = tensor.detach().cpu().clone()
    return state


def response_scale(responses: Array) -> npt.NDArray[np.float64]:
    """What the authors divide each unit's responses by, (U,), from the (N, U) training responses.

    The standard deviation, but at least a hundredth of its mean over units, so that silent units do
    not blow up (neuralpredictors, ``NeuroNormalizer``).
    """
    deviation = np.asarray(responses, dtype=np.float64).std(axis=0)
    scale: npt.NDArray[np.float64] = np.maximum(deviation, 0.01 * deviation.mean())
    return scale


def standardise(images: Array | Tensor, contract: InputContract) -> Tensor:
    """(N, C, H, W) gray values as the core takes them."""
    return (torch.as_tensor(images, dtype=torch.float32) - contract.mean) / contract.std


@contextmanager
def _world_of_2022() -> Iterator[None]:
    """While it lasts, ``collections.Iterable`` exists, and torchvision can be imported."""
    lacks_iterable = not hasattr(collections, "Iterable")
    lacks_torchvision = "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None
    if lacks_iterable:
        vars(collections)["Iterable"] = collections.abc.Iterable
    if lacks_torchvision:
        sys.modules["torchvision"] = types.ModuleType("torchvision")
    try:
        yield
    finally:
        if lacks_iterable:
            del vars(collections)["Iterable"]
        if lacks_torchvision:
            del sys.modules["torchvision"]
