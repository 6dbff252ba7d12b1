"""Where the neurons of a scan look, and the core's features there.

The first images pass through the core whole. Score maps from them (``score_maps``) and a simple map from cortex
(``retinotopy``) show roughly which part of the feature map the neurons look at. Of more images, only that part is
computed, and from it the map is found anew; should neurons then turn out to look beyond it, these images pass whole.
Of all the others only the pixels between which somebody looks are computed: for one patch of cortex a tenth of
the feature map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mousev1.core.crop import Region
from mousev1.core.representation import FrozenCore
from mousev1.fit.features import FeatureStore, compute_features, store_bytes
from mousev1.fit.memory import IMAGES_FOR_PLACES, MEGA, UNITS_PER_PASS, MemoryPlan
from mousev1.fit.population import FitData
from mousev1.fit.retinotopy import (
    Places,
    Retinotopy,
    fit_retinotopy,
    locate,
)
from mousev1.fit.score_maps import FOLDS, Grid, ScoreMaps, compute_score_maps, sufficient_spacing
from mousev1.fit.timing import Clock
from mousev1.readout.gaussian import region_around

REACH = 3.0  # standard deviations around the map in which neurons are looked for
ROUGHLY_ALIKE = 0.6  # features that neighbour each other where the first map is scored
FIRST_UNITS = 200  # neurons that are scored there, at most
FIRST_RESPONSES = 25_000  # of these neurons, that show which part of the feature map matters, at least
# Responses, of all neurons of the sample, that the map is found from at least, if there are so many.
MAP_RESPONSES = 500_000
IMAGES_FOR_PRECISION = 500


@dataclass(frozen=True)
class FeatureSource:
    """Features of a fit's images.

    Attributes:
        core: frozen core.
        images: (N, C_in, H, W).
        order: (N,), random; image ``order[i]`` is row i of every store.
        device: where the core runs.
        plan: where features go.
        stores: what closes them in the end.
        report: told which part of the feature map neurons look at, or ``None``.
        progress: show progress bars.
    """

    core: FrozenCore
    images: Tensor
    order: Tensor
    device: torch.device | str
    plan: MemoryPlan
    stores: ExitStack
    report: Callable[[str], None] | None
    progress: bool

    def compute(
        self, count: int, *, region: Region | None = None, known: FeatureStore | None = None
    ) -> FeatureStore:
        """Features of the first ``count`` images; see ``compute_features``."""
        height, width = self.images.shape[2:]
        more, held = count, 0
        if known is not None:
            more, (held, _) = count - known.images, known.held()
        store = compute_features(
            self.core,
            self.images,
            device=self.device,
            order=self.order[:count],
            known=known,
            region=region,
            directory=self.plan.directory_for(held + store_bytes(self.core, more, height, width, region)),
            progress=self.progress,
        )
        return self.stores.enter_context(store)

    def tell(self, store: FeatureStore) -> None:
        """Report what part of the feature map a store of all images holds, and where."""
        if self.report is None:
            return
        region, (memory, disk) = store.region, store.held()
        where = [f"{memory / MEGA:,.0f} MB in memory"] if memory else []
        where += [f"{disk / MEGA:,.0f} MB in {self.plan.directory}"] if disk else []
        self.report(
            f"neurons look at {region.height} x {region.width} of {store.height} x {store.width} places; "
            f"core features: {', '.join(where)}"
        )


@dataclass(frozen=True)
class Found:
    """Where neurons look.

    Attributes:
        data: features there, of all images, and responses.
        retinotopy: the map chosen, and the scores of its alternatives.
        places: of the live neurons, in order of their numbers.
        ridge: penalty per image that predicted responses best; see ``score_maps``.
    """

    data: FitData
    retinotopy: Retinotopy
    places: Places
    ridge: float


def images_to_compute_whole(images: int, units: int, *, least: int) -> int:
    """Of how many images to compute the whole feature map first: of all, if the rest would not be worth a region."""
    first = max(least, FIRST_RESPONSES // min(units, FIRST_UNITS))
    return first if images >= 2 * first else images


def half_extent(height: int, width: int) -> Tensor:
    """Pixels (x, y) from the middle of a feature map to its border, where positions are 1, (2,) float64."""
    return torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=torch.float64) / 2


def positions_of(places: Places, height: int, width: int) -> Tensor:
    """(U, 2) float32 positions (x, y), from -1 to 1."""
    return (places.mean / half_extent(height, width) - 1.0).float()


def find_places(
    source: FeatureSource,
    first: FitData,
    cortex: Tensor | None,
    shuffled: Tensor,
    *,
    map_units: int,
    map_images: int,
    map_spacing: int,
    clock: Clock,
) -> Found:
    """Where the live neurons look: the map from a sample, then all in its reach.

    Args:
        source: features.
        first: the whole feature map of the first images, or of all, and responses.
        cortex: (U, 2) normalised cortical positions of all neurons, or ``None``.
        shuffled: the live neurons in random order.
        map_units: see ``ConvexSettings``.
        map_images: see ``ConvexSettings``.
        map_spacing: see ``ConvexSettings``.
        clock: told what took how long.
    """
    n, units = len(source.order), len(shuffled)
    size = first.store.height, first.store.width
    spacing = sufficient_spacing(first.store, map_spacing)
    sample, others = shuffled[:map_units], shuffled[map_units:]
    where, everywhere = (None, None) if cortex is None else (cortex[sample], cortex[shuffled])
    in_parts = first.store.images < n
    mapped = min(n, map_images, max(n // 2, MAP_RESPONSES // len(sample)))
    if in_parts:  # the last fold, on which maps are compared, must be new
        mapped = max(mapped, math.ceil(first.store.images * FOLDS / (FOLDS - 1)))

    def features(images: int, region: Region, known: FitData) -> FitData:
        data = replace(known, store=source.compute(images, region=region, known=known.store))
        clock.lap("features")
        return data

    def score(data: FitData, units: Tensor, images: int, grid: Grid, ridge: float | None = None) -> ScoreMaps:
        responses = data.responses(units, images)
        return compute_score_maps(data.store, responses, grid, ridge=ridge, progress=source.progress)

    data, grid, start = first, Grid.spaced(*size, spacing), None
    if in_parts:
        few = slice(FIRST_UNITS)
        roughly = sufficient_spacing(first.store, map_spacing + 1, alike=ROUGHLY_ALIKE)
        maps = score(first, sample[few], first.store.images, Grid.spaced(*size, roughly))
        clock.lap("score maps")
        start = fit_retinotopy(maps, None if where is None else where[few], smooth=False).map
        clock.lap("retinotopy")
        grid = Grid.spaced(*size, spacing, *start.reach(everywhere, units, deviations=REACH + 1))
    while True:
        if in_parts:
            data = features(mapped, grid.region(), first)
        maps = score(data, sample, mapped, grid)
        clock.lap("score maps")
        retinotopy = fit_retinotopy(maps, where, start=start)
        clock.lap("retinotopy")
        lowest, highest = retinotopy.map.reach(everywhere, units, deviations=REACH)
        if not in_parts or not grid.exceeded_by(lowest, highest):
            break
        grid = Grid.spaced(*size, spacing)  # does not happen twice
        data.store.close()

    # On a map that neurons do not leave, their own scores tell no more than the precision.
    scattered = retinotopy.map.scattered
    used = min(n, IMAGES_FOR_PLACES) if scattered else min(mapped, IMAGES_FOR_PRECISION)
    if data.store.images < used:
        data = features(used, grid.region(), data)
    near, parts = grid.within(lowest, highest), []
    if mapped >= used or not scattered:
        parts.append(maps.within(near).for_images(1.0 if scattered else n / mapped))
    else:
        others = shuffled
    for part in others.split(UNITS_PER_PASS) if len(others) else ():
        scores = score(data, part, used, near, maps.ridge)
        parts.append(scores.for_images(1.0 if scattered else n / used))
    places = locate(retinotopy.map, ScoreMaps.joined(parts), everywhere)
    clock.lap("places")
    if data.store.images < n:
        seen, _ = region_around(positions_of(places, *size), *size)
        data = features(n, seen, data)
    source.tell(data.store)
    in_order = torch.argsort(shuffled)
    return Found(data, retinotopy, Places(places.mean[in_order], places.covariance[in_order]), maps.ridge)
