"""The file of truth behind a simulated scan, as comparisons of models need it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mousev1.metrics.population_scores import Truth


def read_truth(path: Path) -> Truth:
    """The true rates of a simulated scan, as ``training.simulation`` writes them or under older names."""
    with np.load(path) as arrays:
        simulation = "rate_image_id" in arrays
        ids, rates, dead = (
            ("rate_image_id", "rate", "silent") if simulation else ("test_image_id", "rate_test", "dead")
        )
        return Truth(arrays[ids], arrays[rates], ~arrays[dead])
