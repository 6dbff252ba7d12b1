"""The tables of a simulation config: every setting with its default, its unit and where it comes from."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from training.settings import STRICT, Count, Fraction, NotNegative, Positive, Range

DEAD_LEAVES = "dead leaves"


@dataclass(frozen=True, config=STRICT)
class StimulusConfig:
    """Where the images come from."""

    # ``"dead leaves"`` (procedural), or the path of a folder of photographs, or of an ``.npz`` with ``patches`` (N,
    # H, W) uint8 and ``source`` (N,), the photograph of each. A relative path starts at the config file
    source: str = DEAD_LEAVES
    # images cut out of one dead-leaves canvas; images of different tiers or scans never share one
    crops_per_canvas: Count = 40
    # standard deviation of the 1/f texture on the leaves, in units of the leaves' own
    texture: NotNegative = 0.45


@dataclass(frozen=True, config=STRICT)
class RetinotopyConfig:
    """How cortex maps onto the monitor.

    Kalatsky & Stryker 2003 (Neuron 38:529) and Garrett et al. 2014 (J. Neurosci. 34:12587): V1 spans
    about 90 deg of azimuth and 60 deg of elevation on 2 to 3 mm. Smith & Haeusser 2010 (Nat. Neurosci.
    13:1144) and Bonin et al. 2011 (J. Neurosci. 31:18506): neighbours scatter by a few degrees.
    """

    field_um: Positive = 700.0  # side of the square of cortex that is imaged, in micrometres
    azimuth_deg_per_mm: Positive = 32.0  # magnification along azimuth, median over animals
    elevation_deg_per_mm: Positive = 24.0  # the same along elevation
    # standard deviation over animals of the natural logarithm of either
    magnification_spread: NotNegative = 0.12
    # standard deviation over animals of the rotation of the cranial window
    rotation_sd_deg: NotNegative = 20.0
    # standard deviation over animals of where the population looks, around the centre of the monitor
    centre_sd_deg: NotNegative = 3.0
    # standard deviation of a receptive field's centre around the map, per axis
    scatter_sd_deg: NotNegative = 3.0
    day_shift_sd_deg: NotNegative = 0.5  # standard deviation of the shift of the eye between days, per axis
    margin_px: NotNegative = 7.0  # receptive-field centres keep this far from the frame's border


@dataclass(frozen=True, config=STRICT)
class NeuronConfig:
    """What the neurons are like; ``training.simulation.neurons`` cites the literature per property."""

    simple_share: Fraction = 0.6  # fraction of simple cells among those that see
    silent_share: Fraction = 0.03  # fraction of neurons blind to the image; they still fire
    unreliable_share: Fraction = 0.1  # fraction of neurons with ``unreliable_fano`` instead of ``fano``
    frequency_cpd: Positive = 0.034  # median of the Gabor's spatial frequency, in cycles per degree
    frequency_spread_octaves: NotNegative = 0.8  # standard deviation of its base-2 logarithm
    # neurons outside are drawn again; the upper end is what a frame of 0.53 pixels per degree can show
    frequency_range_cpd: Range = (0.01, 0.16)
    cardinal_bias: Fraction = 0.2  # 0 for uniform orientations, 1 for none at the obliques
    # median SD of the envelope at the median frequency, in degrees; geometric mean of the two axes
    envelope_deg: Positive = 6.0
    envelope_range_deg: Range = (2.5, 10.0)  # bounds of that SD
    aspect_ratio: Positive = 1.3  # median of the envelope's SD along the stripes over that across them
    semi_saturation: Positive = 0.25  # median contrast of half the largest response, Michelson, 0 to 1
    surround_strength: NotNegative = 1.5  # median weight of the surround against the centre's normalisation
    surround_ratio: Positive = 2.5  # SD of the surround over that of the centre
    peak_events: Positive = 11.0  # median response to a strong optimal stimulus, in events per trial
    baseline_events: Positive = 0.15  # median response to a gray screen, in events per trial
    events_spread: NotNegative = 0.6  # standard deviation of the natural logarithm of either
    unit_spread_decades: NotNegative = 0.5  # standard deviation of the base-10 logarithm of the response unit
    # standard deviation of the natural logarithm of the change between days of a matched neuron's unit and events
    day_spread: NotNegative = 0.2

    def __post_init__(self) -> None:
        low, high = self.frequency_range_cpd
        if not low < self.frequency_cpd < high:
            raise ValueError(
                f"frequency_cpd: expected a value inside frequency_range_cpd [{low}, {high}], "
                f"got {self.frequency_cpd}"
            )


@dataclass(frozen=True, config=STRICT)
class NoiseConfig:
    """How one trial differs from the next.

    Goris et al. 2014 (Nat. Neurosci. 17:858) and Lin et al. 2015 (Neuron 87:644): a gain common to
    the population multiplies rates, neurons follow it more or less; the rest of the variance grows
    in proportion to the mean.
    """

    gain_sd: NotNegative = 0.2  # standard deviation of the natural logarithm of the shared gain
    # standard deviation over neurons of the exponent each applies to it, mean 1
    gain_coupling_sd: NotNegative = 0.3
    fano: Positive = 1.0  # variance over mean of a trial's events, given the rate
    unreliable_fano: Positive = 4.0  # the same for unreliable neurons
