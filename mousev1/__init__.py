"""Models of mouse primary visual cortex on the generalising core of Lurz et al. 2021 (ICLR).

The names below load on first use, so that ``import mousev1`` costs next to nothing and does no
network access.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mousev1.compare.learning_curve import transfer_curve as transfer_curve
    from mousev1.compare.results import LearningCurve as LearningCurve
    from mousev1.core.network import Core as Core
    from mousev1.core.network import CoreConfig as CoreConfig
    from mousev1.core.network import InputContract as InputContract
    from mousev1.core.representation import Representation as Representation
    from mousev1.data.io import read_scan as read_scan
    from mousev1.data.io import write_scan as write_scan
    from mousev1.data.scan import Scan as Scan
    from mousev1.fit.fitting import ConvexSettings as ConvexSettings
    from mousev1.fit.fitting import SGDSettings as SGDSettings
    from mousev1.fit.fitting import fit_matched_scans as fit_matched_scans
    from mousev1.fit.fitting import fit_readout as fit_readout
    from mousev1.fit.fitting import fit_scan as fit_scan
    from mousev1.hub.checkpoint_import import import_checkpoint as import_checkpoint
    from mousev1.hub.cores import load_core as load_core
    from mousev1.hub.model_files import load_model as load_model
    from mousev1.hub.model_files import save_model as save_model
    from mousev1.hub.push import push_core as push_core
    from mousev1.hub.push import push_model as push_model
    from mousev1.model.response_model import ResponseModel as ResponseModel
    from mousev1.numerics.process_settings import tune_process as tune_process
    from mousev1.storage.core_files import save_core as save_core

__version__ = version("mousev1")

_HOME = {
    "ConvexSettings": "fit.fitting",
    "Core": "core.network",
    "CoreConfig": "core.network",
    "InputContract": "core.network",
    "Representation": "core.representation",
    "ResponseModel": "model.response_model",
    "SGDSettings": "fit.fitting",
    "Scan": "data.scan",
    "LearningCurve": "compare.results",
    "fit_matched_scans": "fit.fitting",
    "fit_readout": "fit.fitting",
    "fit_scan": "fit.fitting",
    "import_checkpoint": "hub.checkpoint_import",
    "load_core": "hub.cores",
    "load_model": "hub.model_files",
    "push_core": "hub.push",
    "push_model": "hub.push",
    "read_scan": "data.io",
    "save_core": "storage.core_files",
    "save_model": "hub.model_files",
    "transfer_curve": "compare.learning_curve",
    "tune_process": "numerics.process_settings",
    "write_scan": "data.io",
}

__all__ = [*sorted(_HOME), "__version__"]


_FOLDERS = (
    "ingest",
    "insilico",
    "metrics",
    "plot",
)  # found on first use, too, without an import of their own


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f"mousev1.{name}")
    if name in _HOME:
        return getattr(import_module(f"mousev1.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mousev1' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_FOLDERS]
