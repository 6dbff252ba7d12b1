"""Where the neurons of a scan look, and the core's features there.

The first images pass through the core whole. Score maps from them (``score_maps``) and a simple map from cortex
(``retinotopy``) show roughly which part of the feature map the neurons look at. Of more images, only that part is
computed, and from it the map is found anew; should neurons then turn out to look beyond it, these images pass whole.
Of all the others only the pixels that some neuron reads are computed: for one patch of cortex a tenth of
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
from mousev1.fit.memory import IMAGES_FOR_LOCATIONS, MEGA, UNITS_PER_PASS, MemoryPlan
from mousev1.fit.population import FitData
from mousev1.fit.retinotopy import (
    Locations,
    PositionMap,
    Retinotopy,
    fit_retinotopy,
    locate,
)
from mousev1.fit.score_maps import FOLDS, Grid, ScoreMaps, compute_score_maps, sufficient_spacing
from mousev1.fit.settings import ConvexSettings
from mousev1.fit.timing import Clock
from mousev1.readout.interpolation import region_around

REACH = 3.0  # standard deviations around the map in which neurons are looked for
ROUGH_CORRELATION = 0.6  # of neighbouring features where the first map is scored
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
        report: called with which part of the feature map neurons look at, or ``None``.
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

    def report_region(self, store: FeatureStore) -> None:
        """Report what part of the feature map a store of all images holds, and where it is kept."""
        if self.report is None:
            return
        region, (memory, disk) = store.region, store.held()
        kept = [f"{memory / MEGA:,.0f} MB in memory"] if memory else []
        kept += [f"{disk / MEGA:,.0f} MB in {self.plan.directory}"] if disk else []
        self.report(
            f"neurons look at {region.height} x {region.width} of {store.height} x {store.width} pixels of the "
            f"feature map; core features: {', '.join(kept)}"
        )


@dataclass(frozen=True)
class ReadoutLocations:
    """Where the responsive neurons look.

    Attributes:
        data: features there, of all images, and responses.
        retinotopy: the map chosen, and the scores of its alternatives.
        locations: of the responsive neurons, in order of their numbers.
        ridge: penalty per image that predicted responses best; see ``score_maps``.
    """

    data: FitData
    retinotopy: Retinotopy
    locations: Locations
    ridge: float


def images_to_compute_whole(images: int, units: int, *, least: int) -> int:
    """Of how many images to compute the whole feature map first: of all, if the rest would not be worth a region."""
    first = max(least, FIRST_RESPONSES // min(units, FIRST_UNITS))
    return first if images >= 2 * first else images


def half_extent(height: int, width: int) -> Tensor:
    """Pixels (x, y) from the middle of a feature map to its border, where positions are 1, (2,) float64."""
    return torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=torch.float64) / 2


def positions_of(locations: Locations, height: int, width: int) -> Tensor:
    """(U, 2) float32 positions (x, y), from -1 to 1."""
    return (locations.mean / half_extent(height, width) - 1.0).float()


def find_locations(
    source: FeatureSource,
    first: FitData,
    cortex: Tensor | None,
    shuffled: Tensor,
    settings: ConvexSettings,
    clock: Clock,
) -> ReadoutLocations:
    """Where the responsive neurons look: the map from a sample, then all neurons in its reach.

    Args:
        source: features.
        first: the whole feature map of the first images, or of all, and responses.
        cortex: (U, 2) normalised cortical positions of all neurons, or ``None``.
        shuffled: the responsive neurons in random order.
        settings: sizes of the samples.
        clock: takes the time of each step.
    """
    search = _Search(source, first, cortex, shuffled, settings, clock)
    found = search.find_map()
    data, locations = search.locate(found)
    n, size = len(source.order), search.size
    if data.store.images < n:
        read, _ = region_around(positions_of(locations, *size), *size)
        data = search.with_features(data, n, read)
    source.report_region(data.store)
    in_order = torch.argsort(shuffled)
    locations = Locations(locations.mean[in_order], locations.covariance[in_order])
    return ReadoutLocations(data, found.retinotopy, locations, found.maps.ridge)


@dataclass(frozen=True)
class _FoundMap:
    """A map, and what it was found from.

    Attributes:
        data: features and responses.
        grid: where scores were computed.
        maps: scores of the sample.
        retinotopy: the map.
        near: the part of the grid in the map's reach.
    """

    data: FitData
    grid: Grid
    maps: ScoreMaps
    retinotopy: Retinotopy
    near: Grid


class _Search:
    """The steps of ``find_locations``, whose arguments it takes."""

    def __init__(
        self,
        source: FeatureSource,
        first: FitData,
        cortex: Tensor | None,
        shuffled: Tensor,
        settings: ConvexSettings,
        clock: Clock,
    ) -> None:
        self.source, self.first, self.shuffled = source, first, shuffled
        self.map_spacing, self.clock = settings.map_spacing, clock
        self.size = first.store.height, first.store.width
        self.sample = shuffled[: settings.map_units]
        self.cortex = None if cortex is None else cortex[shuffled]
        n, computed = len(source.order), first.store.images
        self.in_parts = computed < n
        self.map_images = min(n, settings.map_images, max(n // 2, MAP_RESPONSES // len(self.sample)))
        if self.in_parts:  # the last fold, on which maps are compared, must be new
            self.map_images = max(self.map_images, math.ceil(computed * FOLDS / (FOLDS - 1)))

    def with_features(self, data: FitData, images: int, region: Region) -> FitData:
        """The same with features of so many images, within a region."""
        store = self.source.compute(images, region=region, known=data.store)
        self.clock.lap("features")
        return replace(data, store=store)

    def score(
        self, data: FitData, units: Tensor, images: int, grid: Grid, ridge: float | None = None
    ) -> ScoreMaps:
        """Score maps of some neurons."""
        responses = data.responses(units, images)
        return compute_score_maps(data.store, responses, grid, ridge=ridge, progress=self.source.progress)

    def fit_map(
        self, maps: ScoreMaps, *, start: PositionMap | None = None, smooth: bool = True
    ) -> Retinotopy:
        """The map from score maps of the first neurons of the sample."""
        self.clock.lap("score maps")
        cortex = None if self.cortex is None else self.cortex[: len(maps.inner)]
        retinotopy = fit_retinotopy(maps, cortex, start=start, smooth=smooth)
        self.clock.lap("retinotopy")
        return retinotopy

    def reach(self, position_map: PositionMap, deviations: float) -> tuple[Tensor, Tensor]:
        """Between which pixels (x, y) all neurons are expected, in so many standard deviations."""
        return position_map.reach(self.cortex, len(self.shuffled), deviations=deviations)

    def rough_map(self) -> PositionMap:
        """A first map, from the first images and a few neurons."""
        spacing = sufficient_spacing(self.first.store, self.map_spacing + 1, alike=ROUGH_CORRELATION)
        grid = Grid.spaced(*self.size, spacing)
        maps = self.score(self.first, self.sample[:FIRST_UNITS], self.first.store.images, grid)
        return self.fit_map(maps, smooth=False).map

    def find_map(self) -> _FoundMap:
        """The map from the sample; from features of the whole map if the rough map leads astray."""
        spacing = sufficient_spacing(self.first.store, self.map_spacing)
        whole = Grid.spaced(*self.size, spacing)
        if not self.in_parts:
            return self.find_map_on(whole, self.first, None)
        start = self.rough_map()
        near = Grid.spaced(*self.size, spacing, *self.reach(start, REACH + 1))
        for grid in (near, whole):
            data = self.with_features(self.first, self.map_images, grid.region())
            found = self.find_map_on(grid, data, start)
            if not grid.exceeded_by(*self.reach(found.retinotopy.map, REACH)):
                break
            if grid is near:
                data.store.close()
        return found

    def find_map_on(self, grid: Grid, data: FitData, start: PositionMap | None) -> _FoundMap:
        """The map from the sample's scores on a grid."""
        maps = self.score(data, self.sample, self.map_images, grid)
        retinotopy = self.fit_map(maps, start=start)
        return _FoundMap(data, grid, maps, retinotopy, grid.within(*self.reach(retinotopy.map, REACH)))

    def locate(self, found: _FoundMap) -> tuple[FitData, Locations]:
        """Locations of all neurons, in the order given, and the data they were found from."""
        n, mapped, data = len(self.source.order), self.map_images, found.data
        # On a map that neurons do not leave, their own scores add no more than how precise it is.
        scattered = found.retinotopy.map.scattered
        used = min(n, IMAGES_FOR_LOCATIONS) if scattered else min(mapped, IMAGES_FOR_PRECISION)
        if data.store.images < used:
            data = self.with_features(data, used, found.grid.region())
        others, parts = self.shuffled, []
        if mapped >= used or not scattered:
            others = self.shuffled[len(self.sample) :]
            parts.append(found.maps.within(found.near).for_images(1.0 if scattered else n / mapped))
        for part in others.split(UNITS_PER_PASS) if len(others) else ():
            scores = self.score(data, part, used, found.near, found.maps.ridge)
            parts.append(scores.for_images(1.0 if scattered else n / used))
        locations = locate(found.retinotopy.map, ScoreMaps.joined(parts), self.cortex)
        self.clock.lap("locations")
        return data, locations
