"""Fitting a readout to a user's neurons, on a frozen core."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mousev1.core import Core
from mousev1.errors import check_choice, listing
from mousev1.fit.inputs import FitInputs, check_inputs, response_scale, split_by_identity
from mousev1.fit.sgd import SGDSettings, fit_sgd
from mousev1.model import FitRecord, ResponseModel
from mousev1.scan import Scan
from mousev1.stimulus import Images

Array = npt.NDArray[Any]

__all__ = ["SGDSettings", "fit_readout", "fit_scan"]


def fit_readout(
    images: Images,
    responses: Array,
    positions: Array | None = None,
    *,
    core: Core | None = None,
    method: str = "sgd",
    settings: SGDSettings | None = None,
    image_ids: Array | None = None,
    unit_ids: Array | None = None,
    validation: tuple[Images, Array] | None = None,
    pixels_per_degree: float | None = None,
    constant_units: str = "error",
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> ResponseModel:
    """Fit a readout to recorded neurons on top of a frozen core.

    Args:
        images: N pictures, one per trial: (N, H, W) or (N, C, H, W) arrays of gray values in the core's
            value range (0 to 255 for 11-S), PIL images, or paths.
        responses: (N, U) responses of U neurons, non-negative, any unit. Training images only.
        positions: (U, 2) or (U, 3) places of the neurons on cortex, any unit of length; the first two
            columns are used. None fits without them, which needs more images.
        core: the frozen core; by default the published 11-S.
        method: ``"sgd"`` for the published recipe.
        settings: of the method, if not the defaults.
        image_ids: (N,) identity of the image of each trial; equal pictures are found if not given.
        unit_ids: (U,) names of the neurons, whole numbers; 0 to U - 1 if not given.
        validation: images and responses of other images, to stop on; by default a tenth of the
            distinct images is held out.
        pixels_per_degree: resolution of the images if it is not the core's; they are resampled.
        constant_units: what to do with neurons that never change: ``"error"``, or ``"mean"`` to predict
            their constant.
        seed: of everything random.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        progress: show a progress bar.

    Returns:
        A model that predicts in the units of ``responses``. The core it holds is the one given, bit
        for bit (unless ``SGDSettings(batchnorm="batch")`` asked for a copy that follows the batches).

    Raises:
        ValueError: input of a wrong shape, type or range; the message names the argument, what was
            expected, what came, and the remedy.

    Example:
        >>> import numpy as np, mousev1
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 256, size=(40, 36, 64), dtype=np.uint8)
        >>> responses = rng.gamma(1.0, size=(40, 3))
        >>> core = mousev1.Core.random(seed=0)
        >>> settings = mousev1.SGDSettings(max_epochs=1)
        >>> model = mousev1.fit_readout(
        ...     images, responses, core=core, method="sgd", settings=settings, progress=False
        ... )
        >>> model.predict(images).shape
        (40, 3)
    """
    check_choice("method", method, ("sgd",))
    check_choice("constant_units", constant_units, ("error", "mean"))
    device = torch.device(device)
    core = _default_core() if core is None else core
    if not core.frozen:
        raise ValueError("core: expected a frozen core, got a trainable one; call core.freeze()")
    data = check_inputs(
        core,
        images,
        responses,
        positions,
        image_ids=image_ids,
        validation=validation,
        pixels_per_degree=pixels_per_degree,
    )
    ids = _check_unit_ids(unit_ids, data.responses.shape[1])
    data = _split(data, seed)
    scale, constant = response_scale(data.responses)
    notes = _check_constant(constant, ids, constant_units)
    assert data.validation is not None
    fit = fit_sgd(
        core,
        (data.images, data.responses / scale),
        (data.validation[0], data.validation[1] / scale),
        data.cortex,
        settings=settings or SGDSettings(),
        seed=seed,
        device=device,
        progress=progress,
    )
    _predict_mean(fit.readout, constant, data.responses)
    record = FitRecord(
        method=method,
        settings=asdict(settings or SGDSettings()),
        n_images=len(np.unique(data.identities)),
        pixels_per_degree=pixels_per_degree,
        scores={"validation_correlation": fit.validation_correlation},
        notes=notes,
    )
    model = ResponseModel(fit.core, fit.readout, unit_ids=ids, response_scale=scale, record=record)
    return model.to(device)


def fit_scan(scan: Scan, **options: Any) -> ResponseModel:
    """Fit a readout to the training tier of a scan; its validation tier is the validation.

    Args:
        scan: with trials in the tier ``"train"``; without validation trials some are held out.
        options: keyword arguments of ``fit_readout`` other than what the scan gives.
    """
    train, held = scan.trials("train"), scan.trials("validation")
    validation = (held.images, held.responses) if len(held.responses) else None
    return fit_readout(
        train.images,
        train.responses,
        scan.positions,
        image_ids=train.image_ids,
        unit_ids=scan.unit_ids,
        validation=validation,
        **options,
    )


def _default_core() -> Core:
    from mousev1.hub import load_core

    return load_core()


def _check_unit_ids(unit_ids: Array | None, units: int) -> Array:
    ids = np.arange(units) if unit_ids is None else np.asarray(unit_ids)
    if ids.shape != (units,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"unit_ids: expected ({units},) whole numbers, one per neuron of responses, got {ids.shape} "
            f"of {ids.dtype}"
        )
    if len(np.unique(ids)) != units:
        raise ValueError("unit_ids: expected a different number for every neuron, got repeated ones")
    return ids


def _split(data: FitInputs, seed: int) -> FitInputs:
    if data.validation is not None:
        return data
    train, held = split_by_identity(data.identities, 0.1, seed)
    return replace(
        data,
        images=data.images[train],
        responses=data.responses[train],
        identities=data.identities[train],
        validation=(data.images[held], data.responses[held]),
    )


def _check_constant(constant: Array, unit_ids: Array, what: str) -> tuple[str, ...]:
    if not len(constant):
        return ()
    names = listing(unit_ids[constant], 5)
    found = f"{len(constant)} neurons never change over the training images (unit ids {names})"
    if what == "error":
        raise ValueError(
            f"responses: {found}, so there is nothing to fit; leave them out, or pass "
            "constant_units='mean' to predict their constant"
        )
    return (f"{found}: their constant is predicted.",)


def _predict_mean(readout: Any, constant: Array, responses: torch.Tensor) -> None:
    """Let constant neurons predict their constant."""
    if not len(constant):
        return
    index = torch.from_numpy(constant)
    level = responses.mean(dim=0)[index].clamp_min(1e-12).to(readout.bias.device)
    with torch.no_grad():
        readout.weights.weight[index] = 0.0
        readout.bias[index] = torch.where(level < 1.0, level.log(), level - 1.0)
