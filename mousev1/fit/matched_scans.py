"""Neurons recorded in several scans: one set of feature weights for all of them.

A matched neuron has shared weights w, and per scan s its own position, scale a_s and bias b_s, as in
``mousev1.readout.gaussian.SharedFeatureWeights``. Every scan is fitted by itself first. Near its optimum the
likelihood of a scan is normal, with information A_s and evidence e_s (``mousev1.fit.prior``), here
with the bias integrated out. The scans' likelihoods of w then multiply,

    w   = (S^-1 + sum_s a_s^2 A_s)^-1 (S^-1 m + sum_s a_s e_s),
    a_s = w'e_s / w'A_s w,

which is solved in turns without another look at the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mousev1.core.representation import FrozenCore
from mousev1.fit.convex import ConvexFit, fit_convex
from mousev1.fit.prior import BIAS_SD

TURNS = 8
SCALE_RANGE = (0.1, 10.0)


@dataclass(frozen=True)
class SharedScan:
    """One of several scans; see ``fit_convex`` for the first three.

    Attributes:
        images: (N, C_in, H, W).
        responses: (N, U).
        cortex: (U, 2) or ``None``.
        match_ids: (U,) whole numbers; neurons with the same number in different scans are the same.
    """

    images: Tensor
    responses: Tensor
    cortex: Tensor | None
    match_ids: Tensor


def fit_convex_shared(core: FrozenCore, scans: list[SharedScan], **options: Any) -> list[ConvexFit]:
    """Fit scans of one animal with shared feature weights for matched neurons.

    Args:
        core: frozen core.
        scans: the scans.
        options: keyword arguments of ``fit_convex``.

    Returns:
        One fit per scan. Matched neurons have weights a_s w; their posterior is still that of their
        own scan, which claims less than is known.
    """
    for i, scan in enumerate(scans):
        units = scan.responses.shape[1]
        if scan.match_ids.shape != (units,) or len(scan.match_ids.unique()) != units:
            raise ValueError(f"match_ids: expected {units} different whole numbers in scan {i}")
    fits = [
        fit_convex(core, scan.images, scan.responses, scan.cortex, keep_information=True, **options)
        for scan in scans
    ]
    likelihoods = [_Likelihood.of(fit, fits[0]) for fit in fits]
    weights = [fit.weights.clone() for fit in fits]
    bias = [fit.bias.clone() for fit in fits]
    rows = [{int(number): row for row, number in enumerate(scan.match_ids)} for scan in scans]
    for number in sorted({number for seen in rows for number in seen}):
        where = [
            (s, seen[number])
            for s, seen in enumerate(rows)
            if number in seen and not fits[s].constant[seen[number]]
        ]
        if len(where) < 2:
            continue
        shared, scales = _combine([likelihoods[s].of_unit(u) for s, u in where], fits[0])
        for (s, u), scale in zip(where, scales, strict=True):
            own, own_bias = likelihoods[s].readout(u, scale * shared)
            weights[s][u], bias[s][u] = own.float(), own_bias.float()
    return [
        replace(fit, weights=w, bias=b, information=None)
        for fit, w, b in zip(fits, weights, bias, strict=True)
    ]


def _combine(parts: list[tuple[Tensor, Tensor]], fit: ConvexFit) -> tuple[Tensor, list[float]]:
    """Shared weights and the scans' scales from (information, evidence) of each scan."""
    mean, precision = fit.prior.mean[:-1], fit.prior.precision[:-1, :-1]
    scales = [1.0] * len(parts)
    shared = mean
    for _ in range(TURNS):
        matrix, right = precision.clone(), precision @ mean
        for scale, (information, evidence) in zip(scales, parts, strict=True):
            matrix += scale**2 * information
            right = right + scale * evidence
        shared = torch.linalg.solve(matrix, right)
        for i, (information, evidence) in enumerate(parts):
            scale = float(shared @ evidence / (shared @ information @ shared).clamp_min(1e-12))
            scales[i] = min(max(scale, SCALE_RANGE[0]), SCALE_RANGE[1])
    return shared, scales


@dataclass(frozen=True)
class _Likelihood:
    """A scan's likelihood of (w, b), normal around its optimum, for its own standardised features.

    ``ratio`` turns weights for the first scan's standardised features into weights for this one's.
    """

    fit: ConvexFit
    information: Tensor
    evidence: Tensor
    ratio: Tensor

    @classmethod
    def of(cls, fit: ConvexFit, first: ConvexFit) -> _Likelihood:
        assert fit.information is not None
        own, prior = fit.prior.standardisation, fit.prior
        theta = torch.cat(
            [t if t.ndim == 2 else t[:, None] for t in own.from_raw(fit.weights, fit.bias)], dim=1
        )
        pull = (theta - prior.mean) @ prior.precision
        evidence = torch.einsum("uij,uj->ui", fit.information, theta) + pull
        return cls(fit, fit.information, evidence, own.std / first.prior.standardisation.std)

    def of_unit(self, unit: int) -> tuple[Tensor, Tensor]:
        """Information and evidence on w alone, in the first scan's standardisation."""
        matrix, right, mean = self.information[unit], self.evidence[unit], self.fit.prior.mean[-1]
        bias = matrix[-1, -1] + BIAS_SD**-2
        across = matrix[:-1, -1] / bias
        information = matrix[:-1, :-1] - across[:, None] * matrix[-1, :-1]
        evidence = right[:-1] - across * (right[-1] + mean * BIAS_SD**-2)
        return information * self.ratio * self.ratio[:, None], evidence * self.ratio

    def readout(self, unit: int, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and bias for raw features, from weights in the first scan's standardisation."""
        matrix, right, mean = self.information[unit], self.evidence[unit], self.fit.prior.mean[-1]
        own = weights * self.ratio
        bias = (right[-1] + mean * BIAS_SD**-2 - matrix[-1, :-1] @ own) / (matrix[-1, -1] + BIAS_SD**-2)
        raw, raw_bias = self.fit.prior.standardisation.to_raw(own[None], bias[None])
        return raw[0], raw_bias[0]
