"""Fitting and predicting leave the host process as they found it."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch

import mousev1
from mousev1.fit.settings import SGDSettings
from small import simulate


def state():
    """What belongs to the host process, as plain values."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the host's own state
    return {
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": (name, keys.tolist(), *rest),
        "python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32 products": torch.get_float32_matmul_precision(),
        "warning filters": list(warnings.filters),
    }


@pytest.mark.parametrize(("method", "settings"), [("convex", None), ("sgd", SGDSettings(max_epochs=1))])
def test_fitting_and_predicting_leave_the_process_as_it_was(method, settings):
    simulated = simulate(train=60)
    # Torch imports sympy with the first optimizer of a process, which filters warnings of its own.
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    before = state()
    model = mousev1.fit_scan(
        simulated.scan, core=simulated.core, method=method, settings=settings, progress=False
    )
    after_fit = state()
    model.predict(simulated.scan.images[:4])
    after = state()
    assert after_fit == before
    assert after == before
