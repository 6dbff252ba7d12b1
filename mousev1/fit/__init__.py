"""Fitting a readout to a user's neurons, on a frozen core."""

from mousev1.fit.fitting import fit_matched_scans, fit_readout, fit_scan
from mousev1.fit.settings import ConvexSettings, SGDSettings

__all__ = ["ConvexSettings", "SGDSettings", "fit_matched_scans", "fit_readout", "fit_scan"]
