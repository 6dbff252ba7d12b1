"""The tables of a simulation config: every setting with its default, its unit and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

DEAD_LEAVES = "dead leaves"


@dataclass(frozen=True)
class StimulusConfig:
    """Where the images come from.

    Attributes:
        source: ``"dead leaves"`` (procedural), or the path of a folder of photographs, or of an
            ``.npz`` with ``patches`` (N, H, W) uint8 and ``source`` (N,), the photograph of each.
            A relative path starts at the config file.
        crops_per_canvas: images cut out of one dead-leaves canvas; images of different tiers or
            scans never share one.
        texture: standard deviation of the 1/f texture on the leaves, in units of the leaves' own.
    """

    source: str = DEAD_LEAVES
    crops_per_canvas: int = 40
    texture: float = 0.45

    def __post_init__(self) -> None:
        _check_positive(self, "crops_per_canvas")
        _check_not_negative(self, "texture")


@dataclass(frozen=True)
class RetinotopyConfig:
    """How cortex maps onto the monitor.

    Kalatsky & Stryker 2003 (Neuron 38:529) and Garrett et al. 2014 (J. Neurosci. 34:12587): V1 spans
    about 90 deg of azimuth and 60 deg of elevation on 2 to 3 mm. Smith & Haeusser 2010 (Nat. Neurosci.
    13:1144) and Bonin et al. 2011 (J. Neurosci. 31:18506): neighbours scatter by a few degrees.

    Attributes:
        field_um: side of the square of cortex that is imaged, in micrometres.
        azimuth_deg_per_mm: magnification along azimuth, median over animals.
        elevation_deg_per_mm: the same along elevation.
        magnification_spread: standard deviation over animals of the natural logarithm of either.
        rotation_sd_deg: standard deviation over animals of the rotation of the cranial window.
        centre_sd_deg: standard deviation over animals of where the population looks, around the
            centre of the monitor.
        scatter_sd_deg: standard deviation of a receptive field's centre around the map, per axis.
        day_shift_sd_deg: standard deviation of the shift of the eye between days, per axis.
        margin_px: receptive-field centres keep this far from the frame's border.
    """

    field_um: float = 700.0
    azimuth_deg_per_mm: float = 32.0
    elevation_deg_per_mm: float = 24.0
    magnification_spread: float = 0.12
    rotation_sd_deg: float = 20.0
    centre_sd_deg: float = 3.0
    scatter_sd_deg: float = 3.0
    day_shift_sd_deg: float = 0.5
    margin_px: float = 7.0

    def __post_init__(self) -> None:
        _check_positive(self, "field_um", "azimuth_deg_per_mm", "elevation_deg_per_mm")
        _check_not_negative(
            self,
            "magnification_spread",
            "rotation_sd_deg",
            "centre_sd_deg",
            "scatter_sd_deg",
            "day_shift_sd_deg",
            "margin_px",
        )


@dataclass(frozen=True)
class NeuronConfig:
    """What the neurons are like; ``training.simulation.neurons`` cites the literature per property.

    Attributes:
        simple_share: share of simple cells among those that see.
        silent_share: share of neurons blind to the image; they still fire.
        unreliable_share: share of neurons with ``unreliable_fano`` in place of ``fano``.
        frequency_cpd: median of the Gabor's spatial frequency, in cycles per degree.
        frequency_spread_octaves: standard deviation of its base-2 logarithm.
        frequency_range_cpd: neurons outside are drawn again; the upper end is what a frame of 0.53
            pixels per degree can show.
        cardinal_bias: 0 for uniform orientations, 1 for none at the obliques.
        envelope_deg: median SD of the envelope at the median frequency, in degrees; geometric mean of the
            two axes.
        envelope_range_deg: bounds of that SD.
        aspect_ratio: median of the envelope's SD along the stripes over that across them.
        semi_saturation: median contrast of half the largest response, Michelson, 0 to 1.
        surround_strength: median weight of the surround against the centre's normalisation.
        surround_ratio: SD of the surround over that of the centre.
        peak_events: median response to a strong optimal stimulus, in events per trial.
        baseline_events: median response to a gray screen, in events per trial.
        events_spread: standard deviation of the natural logarithm of either.
        unit_spread_decades: standard deviation of the base-10 logarithm of the response unit.
        day_spread: standard deviation of the natural logarithm of the change between days of a
            matched neuron's unit and events.
    """

    simple_share: float = 0.6
    silent_share: float = 0.03
    unreliable_share: float = 0.1
    frequency_cpd: float = 0.034
    frequency_spread_octaves: float = 0.8
    frequency_range_cpd: tuple[float, float] = (0.01, 0.16)
    cardinal_bias: float = 0.2
    envelope_deg: float = 6.0
    envelope_range_deg: tuple[float, float] = (2.5, 10.0)
    aspect_ratio: float = 1.3
    semi_saturation: float = 0.25
    surround_strength: float = 1.5
    surround_ratio: float = 2.5
    peak_events: float = 11.0
    baseline_events: float = 0.15
    events_spread: float = 0.6
    unit_spread_decades: float = 0.5
    day_spread: float = 0.2

    def __post_init__(self) -> None:
        _check_shares(self, "simple_share", "silent_share", "unreliable_share", "cardinal_bias")
        _check_positive(
            self,
            "frequency_cpd",
            "envelope_deg",
            "aspect_ratio",
            "semi_saturation",
            "surround_ratio",
            "peak_events",
            "baseline_events",
        )
        _check_not_negative(
            self,
            "frequency_spread_octaves",
            "surround_strength",
            "events_spread",
            "unit_spread_decades",
            "day_spread",
        )
        for name in ("frequency_range_cpd", "envelope_range_deg"):
            low, high = (float(value) for value in getattr(self, name))
            object.__setattr__(self, name, (low, high))
            if not 0 < low < high:
                raise ValueError(f"{name}: expected 0 < low < high, got [{low}, {high}]")
        low, high = self.frequency_range_cpd
        if not low < self.frequency_cpd < high:
            raise ValueError(
                f"frequency_cpd: expected a value inside frequency_range_cpd [{low}, {high}], "
                f"got {self.frequency_cpd}"
            )


@dataclass(frozen=True)
class NoiseConfig:
    """How one trial differs from the next.

    Goris et al. 2014 (Nat. Neurosci. 17:858) and Lin et al. 2015 (Neuron 87:644): a gain common to
    the population multiplies rates, neurons follow it more or less; the rest of the variance grows
    in proportion to the mean.

    Attributes:
        gain_sd: standard deviation of the natural logarithm of the shared gain.
        gain_coupling_sd: standard deviation over neurons of the exponent each applies to it, mean 1.
        fano: variance over mean of a trial's events, given the rate.
        unreliable_fano: the same for unreliable neurons.
    """

    gain_sd: float = 0.2
    gain_coupling_sd: float = 0.3
    fano: float = 1.0
    unreliable_fano: float = 4.0

    def __post_init__(self) -> None:
        _check_not_negative(self, "gain_sd", "gain_coupling_sd")
        _check_positive(self, "fano", "unreliable_fano")


def _check_shares(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}: expected a share from 0 to 1, got {value}")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")


def _check_not_negative(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= 0:
            raise ValueError(f"{name}: expected 0 or a positive number, got {value}")
