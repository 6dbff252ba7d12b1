"""From raw recordings to a ``Scan``: suite2p, CaImAn, NWB, MATLAB or arrays, with a log, pictures and behaviour.

``read_session`` is ``mousev1 ingest`` in Python; what it takes by default is in the classes beside it.
"""

from mousev1.core.network import InputContract
from mousev1.ingest.options import LogFormat, NeuronSelection
from mousev1.ingest.report import Report, contact_sheet
from mousev1.ingest.responses import ResponseWindow
from mousev1.ingest.rig import Rig
from mousev1.ingest.session import read_session
from mousev1.ingest.tiers import TierSplit

__all__ = [
    "InputContract",
    "LogFormat",
    "NeuronSelection",
    "Report",
    "ResponseWindow",
    "Rig",
    "TierSplit",
    "contact_sheet",
    "read_session",
]
