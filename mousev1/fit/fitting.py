"""Fitting a readout to a user's neurons, on a frozen core."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from mousev1.core.representation import FrozenCore, with_own_modules
from mousev1.data.cleaning import Cleaning
from mousev1.data.images import Images
from mousev1.data.scan import Scan
from mousev1.data.validation import plain_array
from mousev1.errors import check_choice, listing
from mousev1.fit import dispatch
from mousev1.fit.inputs import FitInputs, check_inputs, split_by_identity
from mousev1.fit.matched_scans import SharedScan, fit_convex_shared
from mousev1.fit.outlying_trials import without_outlying_trials
from mousev1.fit.response_preparation import PreparedResponses, prepare_responses
from mousev1.fit.settings import ConvexSettings, SGDSettings
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.numerics.devices import usable_device
from mousev1.numerics.torch_modes import check_defaults, plain_modes
from mousev1.numerics.workers import workers

Array = npt.NDArray[Any]
logger = logging.getLogger("mousev1")

__all__ = ["ConvexSettings", "SGDSettings", "fit_matched_scans", "fit_readout", "fit_scan"]


def fit_readout(  # noqa: PLR0913
    images: Images,
    responses: Array,
    positions: Array | None = None,
    *,
    core: FrozenCore | str | Path | None = None,
    method: str = "convex",
    settings: dispatch.FitSettings | None = None,
    image_ids: Array | None = None,
    unit_ids: Array | None = None,
    validation: tuple[Images, Array] | None = None,
    pixels_per_degree: float | None = None,
    constant_units: str = "error",
    negatives: str = "error",
    drop: str | None = None,
    outlier_trials: str = "drop",
    seed: int = 0,
    device: str | torch.device = "cpu",
    memory: int | None = None,
    progress: bool = True,
) -> ResponseModel:
    """Fit a readout to recorded neurons on top of a frozen core.

    Args:
        images: N pictures, one per trial: (N, H, W) or (N, C, H, W) arrays of gray values in the core's
            value range (0 to 255 for 11-S), PIL images, or paths.
        responses: (N, U) responses of U neurons, non-negative, any unit. Training images only.
        positions: (U, 2) or (U, 3) of the neurons on cortex, any unit of length; the first two
            columns are used. None fits without them, which needs more images.
        core: the frozen core, or what ``load_core`` takes; by default the published 11-S.
        method: ``"convex"``, the fast solver, or ``"sgd"``, the published recipe.
        settings: ``ConvexSettings`` or ``SGDSettings``, if not the defaults.
        image_ids: (N,) identity of the image of each trial; equal pictures are found if not given.
        unit_ids: (U,) names of the neurons, whole numbers; 0 to U - 1 if not given.
        validation: responses to other images, as a pair (images, responses). The convex solver only
            scores them; the recipe stops on them, and holds out a tenth of the distinct images if
            none are given.
        pixels_per_degree: resolution of the images if it is not the core's; they are resampled.
        constant_units: what to do with neurons that never change: ``"error"``, or ``"mean"`` to predict
            their constant.
        negatives: ``"clip"`` sets negative responses to 0, as dF/F has them. Rounding (less than 1e-6 of a
            neuron's standard deviation) becomes 0 in any case.
        drop: leave out the ``"trials"`` or the ``"neurons"`` with responses that are not finite (or the
            neurons without a position).
        outlier_trials: what to do with trials in which the whole population responds as in no other, such as
            after a flash of light: ``"drop"`` leaves them out and names them in the model's notes, ``"keep"``
            keeps them.
        seed: of everything random.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``. The core runs there; not measured on a GPU yet.
        memory: most bytes that the process may hold, for the convex solver, which then keeps features on
            disk if they do not fit. What a fit will take is predicted and printed before work starts.
        progress: show progress bars and that prediction.

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
        >>> model = mousev1.fit_readout(images, responses, core=core, progress=False)
        >>> model.predict(images).shape
        (40, 3)
    """
    check_choice("method", method, ("convex", "sgd"))
    check_choice("constant_units", constant_units, ("error", "mean"))
    check_choice("outlier_trials", outlier_trials, ("drop", "keep"))
    if method == "sgd" and memory is not None:
        raise ValueError("memory: only method 'convex' keeps to a limit, got one for 'sgd'; leave it out")
    usable_device(device)
    settings = _settings_of(method, settings)
    core = _frozen(core)
    # The recipe's steps are too small for workers.
    with workers() if method == "convex" else nullcontext():
        data = check_inputs(
            core,
            images,
            responses,
            positions,
            image_ids=image_ids,
            validation=validation,
            pixels_per_degree=pixels_per_degree,
            cleaning=Cleaning(negatives, drop),
        )
        ids = _check_unit_ids(unit_ids, np.shape(responses)[1])[data.neurons]
        if outlier_trials == "drop":
            data = without_outlying_trials(data)
        if method == "sgd" and data.validation is None:
            data = _hold_out(data, seed)
        prepared = prepare_responses(data.responses, ids, change=method == "convex")
        request = _request_of(core, data, prepared, seed, device, memory, progress)
        for note in (*data.notes, *prepared.notes):
            request.report(f"note: {note}")
        notes = (*data.notes, *_check_constant(prepared, ids, constant_units))
        if pixels_per_degree is None:
            notes += _note_size(core, data.images, request.report)
        with plain_modes(request.device):
            if isinstance(settings, ConvexSettings):
                result = dispatch.convex(request, settings)
            else:
                result = dispatch.sgd(request, settings)
        return _model(request, result, method, settings, ids, notes, pixels_per_degree)


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


def fit_matched_scans(  # noqa: PLR0913
    scans: Sequence[Scan],
    *,
    core: FrozenCore | str | Path | None = None,
    settings: ConvexSettings | None = None,
    constant_units: str = "error",
    outlier_trials: str = "drop",
    seed: int = 0,
    device: str | torch.device = "cpu",
    memory: int | None = None,
    progress: bool = True,
) -> list[ResponseModel]:
    """Fit several scans of one animal together: neurons seen in several share their feature weights.

    A matched neuron has one vector of weights, and per scan a position, a scale and a bias of its own, as in
    Lurz et al. 2021, section 2.3.

    Args:
        scans: at least two, with ``match_ids``; neurons with the same number (not -1) are the same.
        core: as for ``fit_readout``, like all further arguments.
        settings: of the convex solver.
        constant_units: as for ``fit_readout``.
        outlier_trials: as for ``fit_readout``.
        seed: as for ``fit_readout``.
        device: as for ``fit_readout``.
        memory: as for ``fit_readout``.
        progress: as for ``fit_readout``.

    Returns:
        One model per scan, in order.
    """
    if len(scans) < 2:
        raise ValueError(f"scans: expected at least two, got {len(scans)}; fit_scan fits a single one")
    if missing := [scan.name for scan in scans if scan.match_ids is None]:
        raise ValueError(
            f"scans: no match_ids in {listing(missing)}, so nothing says which neurons are the same"
        )
    check_choice("outlier_trials", outlier_trials, ("drop", "keep"))
    settings = settings or ConvexSettings()
    core = _frozen(core)
    requests, parts, notes = [], [], []
    for scan in scans:
        train, held = scan.trials("train"), scan.trials("validation")
        data = check_inputs(
            core,
            train.images,
            train.responses,
            scan.positions,
            image_ids=train.image_ids,
            validation=(held.images, held.responses) if len(held) else None,
            pixels_per_degree=None,
        )
        if outlier_trials == "drop":
            data = without_outlying_trials(data)
        prepared = prepare_responses(data.responses, scan.unit_ids, change=True)
        request = _request_of(core, data, prepared, seed, device, memory, progress)
        notes.append((*data.notes, *_check_constant(prepared, scan.unit_ids, constant_units)))
        assert scan.match_ids is not None
        # Unmatched neurons get numbers that no other neuron has.
        unmatched = -1 - np.arange(scan.n_units)
        match_ids = torch.from_numpy(np.where(scan.match_ids < 0, unmatched, scan.match_ids))
        scaled = prepared.responses / prepared.scale
        parts.append(SharedScan(data.images, scaled, dispatch.cortex_of(data), match_ids))
        requests.append(request)
    with plain_modes(requests[0].device):
        fits = fit_convex_shared(
            core.to(requests[0].device), _separate(parts), **dispatch.options_of(requests[0], settings)
        )
    return [
        _model(request, dispatch.convex_result(request, fit), "convex", settings, scan.unit_ids, note, None)
        for scan, request, fit, note in zip(scans, requests, fits, notes, strict=True)
    ]


def _separate(parts: list[SharedScan]) -> list[SharedScan]:
    """Numbers of unmatched neurons (negative) that differ between scans as well."""
    start, separated = 0, []
    for part in parts:
        match_ids = torch.where(part.match_ids < 0, part.match_ids - start, part.match_ids)
        separated.append(replace(part, match_ids=match_ids))
        start += len(part.match_ids)
    return separated


def _frozen(core: FrozenCore | str | Path | None) -> FrozenCore:
    if core is None or isinstance(core, str | Path):
        core = _loaded(core)
    if not core.frozen:
        raise ValueError("core: expected a frozen core, got a trainable one; call core.freeze()")
    return with_own_modules(core)  # a fit on another device leaves the caller's core where it is


def _request_of(
    core: FrozenCore,
    data: FitInputs,
    prepared: PreparedResponses,
    seed: int,
    device: str | torch.device,
    memory: int | None,
    progress: bool,
) -> dispatch.FitRequest:
    check_defaults("fit")
    return dispatch.FitRequest(
        core=core,
        data=data,
        prepared=prepared,
        seed=seed,
        device=usable_device(device),
        memory=memory,
        progress=progress,
        report=(lambda line: tqdm.write(line, file=sys.stderr)) if progress else logger.info,
    )


def _model(
    request: dispatch.FitRequest,
    result: dispatch.FitResult,
    method: str,
    settings: dispatch.FitSettings,
    unit_ids: Array,
    notes: tuple[str, ...],
    pixels_per_degree: float | None,
) -> ResponseModel:
    record = FitRecord(
        method=method,
        settings=asdict(settings),
        n_images=len(np.unique(request.data.identities)),
        pixels_per_degree=pixels_per_degree,
        image_size=(request.data.images.shape[2], request.data.images.shape[3]),
        scores=result.scores,
        notes=(*notes, *result.notes),
    )
    model = ResponseModel(
        result.core,
        result.readout,
        unit_ids=unit_ids,
        response_scale=request.prepared.output_scale,
        record=record,
        posterior=result.posterior,
        training_statistics=result.statistics,
    )
    return model.to(request.device)


def _loaded(source: str | Path | None) -> FrozenCore:
    from mousev1.hub.cores import load_core

    return load_core() if source is None else load_core(source)


def _check_unit_ids(unit_ids: Array | None, units: int) -> Array:
    ids = np.arange(units) if unit_ids is None else plain_array("unit_ids", unit_ids)
    if ids.dtype.kind in "OSU":
        raise ValueError(
            "unit_ids: expected whole numbers, got texts; leave them out to number the neurons, or fit a scan from a "
            "file, which keeps names as neuron_meta"
        )
    if ids.shape != (units,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"unit_ids: expected ({units},) whole numbers, one per neuron of responses, got {ids.shape} "
            f"of {ids.dtype}"
        )
    if len(np.unique(ids)) != units:
        raise ValueError("unit_ids: expected a different number for every neuron, got repeated ones")
    return ids


def _note_size(core: FrozenCore, images: Tensor, report: Callable[[str], None]) -> tuple[str, ...]:
    """That images have another size than the core's frame, which may be a mistake."""
    contract, (height, width) = core.config.input, images.shape[2:]
    if (height, width) == (contract.height, contract.width):
        return ()
    note = (
        f"images are {height}x{width} pixels, the core's own frame is {contract.height}x{contract.width} at "
        f"{contract.pixels_per_degree:g} pixels per degree; images of another resolution need pixels_per_degree="
    )
    report(f"note: {note}")
    return (note,)


def _settings_of(method: str, settings: dispatch.FitSettings | None) -> dispatch.FitSettings:
    defaults: dispatch.FitSettings = ConvexSettings() if method == "convex" else SGDSettings()
    if settings is not None and type(settings) is not type(defaults):
        raise TypeError(
            f"settings: expected {type(defaults).__name__} for method {method!r}, got {type(settings).__name__}"
        )
    return settings or defaults


def _hold_out(data: FitInputs, seed: int) -> FitInputs:
    """A tenth of the distinct images becomes the validation images."""
    train, held = split_by_identity(data.identities, 0.1, seed)
    return replace(
        data,
        images=data.images[train],
        responses=data.responses[train],
        identities=data.identities[train],
        validation=(data.images[held], data.responses[held]),
    )


def _check_constant(prepared: PreparedResponses, unit_ids: Array, what: str) -> tuple[str, ...]:
    constant = np.setdiff1d(prepared.constant, prepared.rounded)
    if not len(constant):
        return prepared.notes
    names = listing(unit_ids[constant], 5)
    found = f"{len(constant)} neurons never change over the training images (unit ids {names})"
    if what == "error":
        raise ValueError(
            f"responses: {found}, so there is nothing to fit; leave them out, or pass "
            "constant_units='mean' to predict their constant"
        )
    return (f"{found}: their constant is predicted.", *prepared.notes)
