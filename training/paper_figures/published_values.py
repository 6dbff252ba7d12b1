"""What Lurz et al. 2021 state in numbers, on real recordings.

Only what could be checked word for word in public text is here: the abstract, the same in the
proceedings and in the preprint (bioRxiv 2020.10.05.326256). The curves of Figures 3, 4 and 5 are pictures;
no table of their values, nor of any fraction oracle, was found, so none is given. The abstract does not
name the score behind its percentages; the authors' plotting notebook
(github.com/sinzlab/Lurz_2020_code, notebooks/ICLR_plots.ipynb) draws Figure 5 as fraction oracle.
"""

from __future__ import annotations

from typing import NamedTuple

PAPER = "Lurz et al. 2021, ICLR, openreview.net/forum?id=Tp7kI90Htd"


class Published(NamedTuple):
    """A fraction that the abstract states, in its words, with the key of the finding and what of ours measure it."""

    finding: str
    value: float
    quote: str
    ours: str


PUBLISHED = (
    Published(
        "gaussian-over-factorized",
        0.07,
        "a gain in performance of 7% compared to the previous state-of-the-art network",
        "gain of the best Gaussian over the best factorized readout, most neurons and images",
    ),
    Published(
        "11-S-over-direct",
        0.12,
        "we exceed the performance of training directly on that animal by 12%",
        "gain of 11-S over direct training, most images",
    ),
    Published(
        "11-S-over-VGG16",
        0.33,
        "outperform a commonly used VGG16 core pre-trained on imagenet by 33%",
        "gain of 11-S over VGG16 with ImageNet weights, most images",
    ),
    Published(
        "data-efficiency",
        0.40,
        "achieving the same performance with only 40% of the data",
        "share of the images with which 11-S reaches the direct model's score with all of them",
    ),
)
