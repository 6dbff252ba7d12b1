"""Models of mouse primary visual cortex on the generalising core of Lurz et al. 2021 (ICLR).

The names below load on first use, so that ``import mousev1`` costs next to nothing and does no
network access.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mousev1.core import Core as Core
    from mousev1.core import CoreConfig as CoreConfig
    from mousev1.core import InputContract as InputContract
    from mousev1.curve import TransferCurve as TransferCurve
    from mousev1.fit import ConvexSettings as ConvexSettings
    from mousev1.fit import SGDSettings as SGDSettings
    from mousev1.fit import fit_matched_scans as fit_matched_scans
    from mousev1.fit import fit_readout as fit_readout
    from mousev1.fit import fit_scan as fit_scan
    from mousev1.formats import read_scan as read_scan
    from mousev1.hub import load_core as load_core
    from mousev1.legacy import import_checkpoint as import_checkpoint
    from mousev1.model import ResponseModel as ResponseModel
    from mousev1.model_io import load_model as load_model
    from mousev1.representation import Representation as Representation
    from mousev1.scan import Scan as Scan
    from mousev1.transfer import transfer_curve as transfer_curve

__version__ = version("mousev1")

_HOME = {
    "ConvexSettings": "fit",
    "Core": "core",
    "CoreConfig": "core",
    "InputContract": "core",
    "Representation": "representation",
    "ResponseModel": "model",
    "SGDSettings": "fit",
    "Scan": "scan",
    "TransferCurve": "curve",
    "fit_matched_scans": "fit",
    "fit_readout": "fit",
    "fit_scan": "fit",
    "import_checkpoint": "legacy",
    "load_core": "hub",
    "load_model": "model_io",
    "read_scan": "formats",
    "transfer_curve": "transfer",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"mousev1.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mousev1' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
