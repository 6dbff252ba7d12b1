"""Simulated recordings with known truth: the study of Lurz et al. 2021 at any scale.

Example:
    >>> config = SimulationConfig(unit_scale=0.002, train_images=8, validation_images=4, test_images=4)
    >>> scan, truth = simulate_scan("sim-g1", config)
    >>> scan.n_units, truth.rates.shape
    (11, (4, 11))
"""

from training.simulation.animals import CORE_SETS, PLANS, TRANSFER_SCAN, WITHIN_ANIMAL_SCAN, ScanPlan
from training.simulation.config import SimulationConfig
from training.simulation.scans import SimulatedTruth, simulate_scan
from training.simulation.study import simulate_study

__all__ = [
    "CORE_SETS",
    "PLANS",
    "TRANSFER_SCAN",
    "WITHIN_ANIMAL_SCAN",
    "ScanPlan",
    "SimulatedTruth",
    "SimulationConfig",
    "simulate_scan",
    "simulate_study",
]
