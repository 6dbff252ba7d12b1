"""Matched neurons of two scans against the truth they share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mousev1
from mousev1.metrics.unit_scores import correlation
from small import simulate


@pytest.fixture(scope="module")
def simulated():
    return simulate(units=40, train=200, validation=20, test=30)


def halves(simulated):
    """The scan as if it were two of the same neurons: different training images, one unmatched neuron each."""
    scan = simulated.scan
    matched = np.where(np.arange(scan.n_units) == 39, -1, np.arange(scan.n_units))
    parts = []
    for odd in (0, 1):
        keep = (scan.tiers != "train") | (np.arange(scan.n_trials) % 2 == odd)
        shown, trial_image = np.unique(scan.trial_image[keep], return_inverse=True)
        parts.append(
            replace(
                scan,
                name=f"part-{odd}",
                images=scan.images[shown],
                image_ids=scan.image_ids[shown],
                trial_image=trial_image,
                tiers=scan.tiers[keep],
                responses=scan.responses[keep] * (1 + 9 * odd),
                match_ids=matched,
            )
        )
    return parts


def test_sharing_brings_both_scans_nearer_to_the_truth(simulated):
    parts = halves(simulated)
    test = simulated.scan.images[-30:]

    def truth(models):
        return [correlation(model.predict(test), simulated.rates[-30:])[:39].mean() for model in models]

    together = mousev1.fit_matched_scans(parts, core=simulated.core, progress=False)
    alone = [mousev1.fit_scan(part, core=simulated.core, progress=False) for part in parts]
    assert np.mean(truth(together)) > np.mean(truth(alone)) + 0.005, (truth(together), truth(alone))
    # each in the units of its own scan
    ratio = together[1].predict(test).mean() / together[0].predict(test).mean()
    assert ratio == pytest.approx(10, rel=0.2)


def test_scans_without_matched_neurons_are_refused(simulated):
    with pytest.raises(ValueError, match="at least two, got 1"):
        mousev1.fit_matched_scans([simulated.scan], core=simulated.core)
    with pytest.raises(ValueError, match="no match_ids in 'small', 'small'"):
        mousev1.fit_matched_scans([simulated.scan, simulated.scan], core=simulated.core)
