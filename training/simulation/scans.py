"""One simulated scan: what the experimenter gets, and what only the simulation knows."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousev1.data.scan import Scan
from mousev1.metrics.unit_scores import oracle_correlation
from training.simulation.animals import PLANS, ScanPlan
from training.simulation.config import SimulationConfig
from training.simulation.neurons import Population, draw_population, on_another_day
from training.simulation.noise import draw_gains, draw_responses
from training.simulation.response import Responder
from training.simulation.retinotopy import (
    PIXELS_PER_DEGREE,
    AffineMap,
    draw_map,
    draw_positions,
    scatter_fields,
)
from training.simulation.stimuli import Stimuli, stimuli_of
from training.simulation.streams import stream
from training.simulation.tuning import Tuning, measure_tuning

Array = NDArray[np.float64]

POSITION_ERROR_UM = 2.0
"""SD of how well a matched neuron's cortical position is found again on another day, per axis."""


@dataclass(frozen=True)
class SimulatedTruth:
    """What is true of a simulated scan; never an input to a fit."""

    # (R, U) float32 expected response to some of the distinct images at gain 1, in the neurons' response units
    rates: NDArray[np.float32]
    rate_image_ids: NDArray[np.int64]  # (R,) which images
    gains: Array  # (T,) the shared gain of every trial
    population: Population  # parameters of the U generating neurons
    tuning: Tuning  # what they prefer, measured on the generating model
    retinotopy: AffineMap  # the map that receptive-field centres scatter around on this day

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The content of ``<scan>.truth.npz``; (U,) where not said otherwise.

        ``rate`` (R, U), ``rate_image_id`` (R,), ``gain`` (T,); ``rf_xy`` (U, 2) pixels (x, y);
        ``cell_type`` ("simple", "complex" or "silent"), ``silent``, ``unit`` (response units per event);
        the fields of ``Tuning``: ``orientation_deg`` (of the stripes, 0 horizontal, counter-clockwise on
        screen), ``frequency_cpd``, ``f1_f0``, ``size_deg``, ``suppression``, ``orientation_selectivity``;
        those of ``Population`` as ``parameter_<name>``; ``retinotopy_matrix`` (2, 2) and
        ``retinotopy_offset`` (2,): pixels = matrix @ micrometres + offset.
        """
        p = self.population
        cell_type = np.where(p.silent, "silent", np.where(p.simple, "simple", "complex"))
        return {
            "rate": self.rates,
            "rate_image_id": self.rate_image_ids,
            "gain": self.gains,
            "rf_xy": np.column_stack([p.x, p.y]),
            "cell_type": cell_type,
            "silent": p.silent,
            "unit": p.unit,
            **_arrays(self.tuning),
            **{f"parameter_{name}": values for name, values in _arrays(p).items()},
            "retinotopy_matrix": self.retinotopy.matrix,
            "retinotopy_offset": self.retinotopy.offset,
        }


def simulate_scan(name: str, config: SimulationConfig) -> tuple[Scan, SimulatedTruth]:
    """One of the 13 scans, in memory.

    The same name, config and seed give the same scan whatever else is simulated.

    Args:
        name: a name in ``PLANS``, for example ``"sim-g1"``.
        config: the simulation; its list of scans does not matter here.

    Raises:
        ValueError: no scan of that name.
    """
    if name not in PLANS:
        raise ValueError(f"name: expected one of {', '.join(PLANS)}, got {name!r}")
    plan = PLANS[name]
    positions, population, retinotopy = _neurons(plan, config)
    stimuli = stimuli_of(name, config)
    responder = Responder(
        population,
        height=config.height,
        width=config.width,
        surround_ratio=config.neurons.surround_ratio,
    )
    rates = responder.rates(stimuli.images)
    trial_image = _trial_order(stimuli, config, stream(config.seed, "trials", name))
    gains = draw_gains(stream(config.seed, "gain", name), len(trial_image), config.noise)
    responses = draw_responses(stream(config.seed, "noise", name), rates[trial_image], gains, population)
    scan = Scan(
        name=name,
        images=stimuli.images[:, None],
        image_ids=stimuli.image_ids,
        trial_image=trial_image,
        tiers=stimuli.tiers[trial_image],
        responses=responses,
        unit_ids=np.arange(1, len(population) + 1),
        positions=positions.astype(np.float32),
        match_ids=np.arange(1, len(population) + 1) if plan.population == "matched" else None,
        animal_id=f"sim-{plan.animal}",
        neuron_meta={
            "area": np.full(len(population), "V1"),
            "layer": np.full(len(population), "L2/3"),
        },
    )
    kept = np.arange(len(rates)) if config.truth_rates == "all" else np.flatnonzero(stimuli.tiers == "test")
    truth = SimulatedTruth(
        rates=rates[kept] * population.unit.astype(np.float32),
        rate_image_ids=stimuli.image_ids[kept],
        gains=gains,
        population=population,
        tuning=measure_tuning(responder),
        retinotopy=retinotopy,
    )
    return scan, truth


def summarise(scan: Scan, truth: SimulatedTruth) -> dict[str, float]:
    """Mean oracle correlation of neurons that see (NaN without repeats), share of silent ones, gray levels."""
    trials = scan.trials("test")
    oracle = oracle_correlation(trials.responses, trials.image_ids)[~truth.population.silent]
    defined = oracle[~np.isnan(oracle)]
    return {
        "oracle": float(defined.mean()) if len(defined) else math.nan,
        "silent": float(truth.population.silent.mean()),
        "image_mean": float(scan.images.mean()),
        "image_sd": float(scan.images.std()),
    }


def _neurons(plan: ScanPlan, config: SimulationConfig) -> tuple[Array, Population, AffineMap]:
    """Cortical positions (U, 3), neurons and retinotopic map of a scan.

    All fields of view of an animal share magnification, rotation and the position on the monitor, which the
    experimenter moves to where the population looks. Every population has its own neurons; matched scans
    show the same neurons on other days.
    """
    frame = {"height": config.height, "width": config.width}
    where = ("animal", plan.animal, "population", plan.population)
    positions = draw_positions(
        stream(config.seed, *where, "positions"), config.units(plan.name), config.retinotopy.field_um
    )
    retinotopy = draw_map(
        stream(config.seed, "animal", plan.animal, "retinotopy"),
        config.retinotopy,
        centre_um=positions.mean(axis=0),
        **frame,
    )
    fields_px = scatter_fields(
        stream(config.seed, *where, "scatter"), retinotopy(positions), config.retinotopy, **frame
    )
    population = draw_population(
        stream(config.seed, *where, "neurons"), fields_px, config.neurons, config.noise
    )
    if plan.session == 1 or plan.population != "matched":
        return positions, population, retinotopy
    rng = stream(config.seed, "day", plan.name)
    shift = rng.normal(0.0, config.retinotopy.day_shift_sd_deg * PIXELS_PER_DEGREE, 2)
    positions = positions + rng.normal(0.0, POSITION_ERROR_UM, positions.shape)
    moved = AffineMap(retinotopy.matrix, retinotopy.offset + shift)
    return positions, on_another_day(rng, population, config.neurons, shift_px=shift), moved


def _trial_order(stimuli: Stimuli, config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """(T,) which image each trial shows: everything shuffled, test images repeated, as in a recording."""
    repeats = np.where(stimuli.tiers == "test", config.test_repeats, 1)
    return rng.permutation(np.repeat(np.arange(len(repeats)), repeats))


def _arrays(values: Population | Tuning) -> dict[str, Array]:
    return {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}
