"""Which animal was recorded when, and which recordings make a core: Fig. 1 of Lurz et al. 2021.

Stated in the paper: 13 scans of 7 animals; "4-S:matched" is four scans of the same 4,597 neurons of
one animal with different images; "4-S:diff-animals" is four scans of different animals; "1-S" is one
scan and "11-S" eleven, with about 72,000 neurons; the scan all cores are tested on has 5,335 neurons and
comes from an animal that is in no core set; the 100 test images are the same everywhere.

Our assumptions, where the paper leaves it open: the core sets are nested (1-S is in both sets of four,
both are in 11-S), so that each step adds data and takes none away; the 72,000 count the matched neurons
once per scan, which leaves the other seven scans 7,344 to 8,122 neurons each; "different animals" means
four; the thirteenth scan shows new neurons of a core animal and is in no core set, so that transfer within
an animal can be tested too; the letters of the animals and the neuron counts of single scans.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScanPlan:
    """One recording of the study: its name, the letter of its animal, and its number of neurons U at full scale.

    Scans of one animal with the same population show the same neurons.
    """

    name: str
    animal: str
    units: int
    population: str

    @property
    def session(self) -> int:
        """Number of the scan within its animal, from 1."""
        return int(self.name.removeprefix(f"sim-{self.animal}"))


MATCHED_UNITS = 4597

_PLANS = (
    *(ScanPlan(f"sim-a{day}", "a", MATCHED_UNITS, "matched") for day in (1, 2, 3, 4)),
    ScanPlan("sim-b1", "b", 7344, "1"),
    ScanPlan("sim-b2", "b", 7928, "2"),
    ScanPlan("sim-b3", "b", 7511, "3"),
    ScanPlan("sim-c1", "c", 7672, "1"),
    ScanPlan("sim-c2", "c", 8122, "2"),
    ScanPlan("sim-d1", "d", 7495, "1"),
    ScanPlan("sim-e1", "e", 7706, "1"),
    ScanPlan("sim-f1", "f", 7345, "1"),
    ScanPlan("sim-g1", "g", 5335, "1"),
)

PLANS: dict[str, ScanPlan] = {plan.name: plan for plan in _PLANS}
"""The 13 scans by name."""

TRANSFER_SCAN = "sim-g1"
"""The scan cores are tested on; its animal is in no core set."""

WITHIN_ANIMAL_SCAN = "sim-b3"
"""New neurons of an animal that is in 11-S; in no core set."""

CORE_SETS: dict[str, tuple[str, ...]] = {
    "1-S": ("sim-a1",),
    "4-S:matched": ("sim-a1", "sim-a2", "sim-a3", "sim-a4"),
    "4-S:diff-animals": ("sim-a1", "sim-b1", "sim-c1", "sim-d1"),
    "11-S": tuple(name for name in PLANS if name not in (TRANSFER_SCAN, WITHIN_ANIMAL_SCAN)),
}
"""Names of the scans that each core of the paper was trained on."""
