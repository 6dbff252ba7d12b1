"""Tomorrow's experiment: stimuli made with a model, as files that a monitor can show, and what it predicts of them.

For every chosen neuron its most exciting and most inhibiting image, the best of a gallery of natural images, and
noise with the spectrum of the most exciting image, all with one mean and RMS contrast. The images of one
neuron are controls for the others (Walker et al. 2019; Bashivan et al. 2019). ``score_classes`` compares the
predictions with the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mousev1.data.images import Images
from mousev1.data.pictures import opened
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.contrast import rms_contrast, set_contrast
from mousev1.insilico.extrapolation import measure_extrapolation
from mousev1.insilico.frame import Frame, Images32
from mousev1.insilico.gallery import rank_gallery
from mousev1.insilico.manifest import FIRST_ID, MANIFEST_FILE, NO_UNIT, Manifest, read_manifest
from mousev1.insilico.masks import confine, masks_of, scrambled
from mousev1.insilico.mei import optimal_images
from mousev1.insilico.units import check_request
from mousev1.model.response_model import ResponseModel
from mousev1.storage.atomic import replacing

MEI, INHIBITING, NATURAL, NOISE = "mei", "inhibiting", "natural", "noise"
RANDOM, BLANK = "natural-random", "blank"


@dataclass(frozen=True, kw_only=True)
class Display:
    """How gray values become the numbers of a file.

    Attributes:
        gamma: of the monitor: luminance is (pixel value / 255) ** gamma. 1 for a monitor that is linear or
            made so by its driver; otherwise the files are corrected for it.
        magnify: pixels of the file per pixel of the model's frame and axis.
    """

    gamma: float = 1.0
    magnify: int = 1

    def __post_init__(self) -> None:
        if not 0.1 <= self.gamma <= 10:
            raise ValueError(
                f"gamma: expected the exponent of a monitor, from 0.1 to 10 (often 2.2), got {self.gamma}"
            )
        if not isinstance(self.magnify, int) or not 1 <= self.magnify <= 100:
            raise ValueError(f"magnify: expected a whole number from 1 to 100, got {self.magnify!r}")

    def to_file(self, images: NDArray[Any], frame: Frame) -> NDArray[np.uint8]:
        """Gray values (N, H, W) to pixel values of the same shape, which the monitor turns back."""
        low, high = frame.value_range
        fraction = np.clip((np.asarray(images, dtype=np.float64) - low) / (high - low), 0.0, 1.0)
        return np.rint(255 * fraction ** (1 / self.gamma)).astype(np.uint8)

    def shown(self, pixels: NDArray[np.uint8], frame: Frame) -> Images32:
        """Gray values that the monitor shows for pixel values (N, H, W)."""
        low, high = frame.value_range
        return np.asarray(low + (high - low) * (pixels / 255.0) ** self.gamma, dtype=np.float32)


def export_experiment(  # noqa: PLR0913
    model: ResponseModel,
    folder: str | Path,
    *,
    units: object = None,
    gallery: Images | None = None,
    random_images: int = 0,
    settings: AscentSettings | None = None,
    mask: bool = False,
    display: Display | None = None,
    frame: Frame | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Make stimuli for neurons and write them as PNG files with a manifest of what the model predicts.

    Classes: ``mei``, ``inhibiting``, ``natural`` (the gallery's best), ``noise`` (the spectrum of ``mei`` with
    random phases), each once per neuron; ``natural-random`` images of the gallery, and one ``blank`` screen.

    Args:
        model: a fitted model of a core of gray images.
        folder: where to; made if it is not there.
        units: (U,) indices of the neurons to make images for and to write predictions of; all by default.
        gallery: natural images of the frame's size; without it there are no natural images.
        random_images: how many images of the gallery to add at random.
        settings: of the ascent; its contrast is that of all images.
        mask: confine the images of a neuron to a soft mask around its most exciting image.
        display: gamma and size of the files.
        frame: the screen; that of the images of the fit by default.
        seed: of everything random.
        overwrite: replace files of an earlier export.
        progress: show progress bars, as all long calls do by default.

    Returns:
        The manifest, as it was written to ``manifest.csv``. Predictions are for the gray values that the
        display shows, eight bits and all.

    Raises:
        ValueError: no such neuron, a contrast that the range does not allow, ``random_images`` without a gallery.
        FileExistsError: the folder is not empty.
    """
    settings, display = settings or AscentSettings(), display or Display()
    index, frame = check_request(model, units, frame)
    folder = _check_folder(folder, overwrite)
    natural = _natural_images(model, gallery, random_images)
    made = dict(_for_units(model, index, natural, frame, settings, mask, seed, progress))
    ids = model.unit_ids.cpu().numpy()[index]
    made_for = np.tile(ids, len(made))
    if natural is not None and random_images:
        varied = np.flatnonzero(natural.reshape(len(natural), -1).std(axis=1) > 0)
        chosen = np.random.default_rng(seed).permutation(varied)[:random_images]
        made[RANDOM] = set_contrast(natural[chosen], frame, rms=settings.contrast, clip=True)
    made[BLANK] = frame.blank()
    classes = [name for name, images in made.items() for _ in images]
    made_for = np.concatenate([made_for, np.full(len(classes) - len(made_for), NO_UNIT)])

    pixels = display.to_file(np.concatenate(list(made.values())), frame)
    shown = display.shown(pixels, frame)
    manifest = Manifest(
        image_ids=FIRST_ID + np.arange(len(shown)),
        files=_file_names(classes, made_for),
        classes=tuple(classes),
        made_for=made_for,
        contrast=rms_contrast(shown, frame),
        extrapolation=_distances(model, shown, index, made_for),
        gamma=display.gamma,
        unit_ids=ids,
        predictions=model.predict(shown, progress=progress)[:, index].astype(np.float64),
    )
    _write(folder, manifest, pixels, display.magnify)
    return manifest


def _natural_images(model: ResponseModel, gallery: Images | None, random_images: int) -> Images32 | None:
    """(N, H, W) of a gallery that has enough images, if there is one."""
    if gallery is None:
        if random_images:
            raise ValueError(
                f"random_images: expected a gallery to take {random_images} images from, got none"
            )
        return None
    natural: Images32 = model.prepare(gallery)[:, 0].float().numpy()
    if not 0 <= random_images <= len(natural):
        raise ValueError(
            f"random_images: expected 0 to {len(natural)}, as the gallery has, got {random_images}"
        )
    return natural


def _file_names(classes: list[str], made_for: NDArray[np.int64]) -> tuple[str, ...]:
    """Numbers of one width first, so that names sort as they are listed."""
    digits = len(str(len(classes)))
    return tuple(
        f"{i:0{digits}d}-{name}" + ("" if unit == NO_UNIT else f"-unit{unit}") + ".png"
        for i, (name, unit) in enumerate(zip(classes, made_for, strict=True))
    )


def _write(folder: Path, manifest: Manifest, pixels: NDArray[np.uint8], magnify: int) -> None:
    _clear(folder)
    for name, picture in zip(manifest.files, pixels, strict=True):
        large = picture.repeat(magnify, axis=0).repeat(magnify, axis=1)
        with replacing(folder / name) as staging:
            Image.fromarray(large).save(staging, format="PNG")
    # last, so that a manifest has all its images
    manifest.write(folder / MANIFEST_FILE)


def read_shown(folder: str | Path, manifest: Manifest, frame: Frame) -> Images32:
    """The gray values (N, H, W) that the monitor shows, from the files of an export."""
    pixels = []
    for name in manifest.files:
        with opened(Path(folder) / name) as picture:
            array = np.array(picture)
        magnify = array.shape[0] // frame.height if array.ndim == 2 else 0
        if magnify < 1 or array.shape != (frame.height * magnify, frame.width * magnify):
            raise ValueError(
                f"{name}: expected a gray picture of {frame.height} x {frame.width} pixels or a multiple, got "
                f"{array.shape}"
            )
        pixels.append(array[::magnify, ::magnify])
    return Display(gamma=manifest.gamma).shown(np.stack(pixels), frame)


def _for_units(
    model: ResponseModel,
    index: NDArray[np.int64],
    natural: Images32 | None,
    frame: Frame,
    settings: AscentSettings,
    mask: bool,
    seed: int,
    progress: bool,
) -> Iterator[tuple[str, Images32]]:
    """Class by class, the images (U, H, W) of all neurons."""
    contrast = settings.contrast
    exciting, inhibiting = (
        optimal_images(
            model, units=index, kind=kind, frame=frame, settings=settings, seed=seed, progress=progress
        ).images
        for kind in ("exciting", "inhibiting")
    )
    masks = masks_of(exciting)

    def finished(images: Images32) -> Images32:
        if mask:
            return confine(images, masks, frame, contrast)
        return set_contrast(images, frame, rms=contrast, clip=True)

    yield MEI, finished(exciting) if mask else exciting
    # masked by its own mask: what inhibits need not lie where the neuron is excited
    yield INHIBITING, confine(inhibiting, masks_of(inhibiting), frame, contrast) if mask else inhibiting
    if natural is not None:
        ranks = rank_gallery(model, natural, units=index, contrast=contrast, frame=frame, progress=progress)
        yield NATURAL, finished(natural[ranks.best[:, 0]])
    yield NOISE, finished(scrambled(exciting, frame, seed=seed))


def _distances(
    model: ResponseModel, shown: Images32, index: NDArray[np.int64], made_for: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,) for the neuron that an image was made for, else of the whole image; NaN without statistics."""
    if model.training_statistics is None:
        return np.full(len(shown), np.nan)
    found = measure_extrapolation(model, shown, units=index)
    own = made_for[:, None] == model.unit_ids.cpu().numpy()[index]
    unit_distance = found.unit_distance[np.arange(len(shown)), own.argmax(axis=1)]
    return np.where(made_for == NO_UNIT, found.image_distance, unit_distance).astype(np.float64)


def _check_folder(folder: str | Path, overwrite: bool) -> Path:
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder to write to, found a file; name another")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise FileExistsError(
                f"{folder} is not empty; choose another folder or pass overwrite=True (--overwrite)"
            )
        if not (folder / MANIFEST_FILE).is_file():
            raise FileExistsError(f"{folder} holds something other than an export; choose another folder")
    return folder


def _clear(folder: Path) -> None:
    """Make the folder, or remove an older export from it: its manifest first, so that none is without images."""
    if (folder / MANIFEST_FILE).is_file():
        old = read_manifest(folder)
        (folder / MANIFEST_FILE).unlink()
        for name in old.files:
            (folder / Path(name).name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
