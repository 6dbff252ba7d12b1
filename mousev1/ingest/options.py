"""What a user may choose about the reading of logs and neurons; windows and tiers stand beside what they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mousev1.errors import check_choice
from mousev1.ingest.recording import SIGNALS


@dataclass(frozen=True, kw_only=True)
class LogFormat:
    """How to read logs whose columns are not recognised.

    Attributes:
        columns: ``onset``, ``image``, ``duration`` or ``tier`` to the name of its column.
        time_unit: ``s``, ``ms`` or ``frames``, for onsets.
        index_base: number of the first picture, where the log has numbers that count pictures in natural order.
        ignore_tiers: divide images anew where the log has tiers.
        behavior_time: column of times in the table of behaviour.
        behavior_time_unit: its unit.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str | None = None
    index_base: int | None = None
    ignore_tiers: bool = False
    behavior_time: str | None = None
    behavior_time_unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class NeuronSelection:
    """Which traces of which neurons.

    Attributes:
        signal: ``spikes`` (deconvolved) or ``fluorescence``: F - 0.7 Fneu or CaImAn's C, as dF/F above a slow
            baseline, without what decays from the frame before.
        decay: time constant of that decay in seconds; 0 for none; the file's, or 0.7, unless given.
        min_probability: select ROIs by probability instead of by the file's own choice (suite2p).
        series: name of the response series of an NWB file, where several fit.
    """

    signal: str = "spikes"
    decay: float | None = None
    min_probability: float | None = None
    series: str | None = None

    def __post_init__(self) -> None:
        check_choice("signal", self.signal, SIGNALS)
