"""Pictures as people have them: on another scale, out of order, in odd files. Each message's remedy is followed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mousev1.core.network import InputContract
from mousev1.data.images import prepare_images
from mousev1.data.pictures import natural_key, picture_files

GRAY = InputContract()
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 20, 30)).astype(np.float64)
Array = np.ndarray


def changed(images: Array, value: float, index: int = 7) -> Array:
    """One pixel of one image changed."""
    out = images.copy()
    out[index, 3, 4] = value
    return out


def one_of_eight_bits(images: Array) -> Array:
    return np.concatenate([images[:7], PIXELS[7:8], images[8:]])


def scaled_back(images: Array) -> Array:
    """What the message about images scaled to 0..1 says."""
    return np.where(images.max(axis=(1, 2), keepdims=True) > 2, images, np.clip(images, 0, 1) * 255)


DOORS: dict[str, tuple[Array, str, Callable[[Array], Array]]] = {
    "0..1": (PIXELS / 255, "got 0 to 1; they look scaled to 0..1: multiply by 255", scaled_back),
    "one overshoot of 1.02": (
        changed(PIXELS / 255, 1.02),
        r"got 0 to 1.02; they look scaled to 0..1: multiply by 255, after clipping",
        scaled_back,
    ),
    "one 8-bit picture among 0..1 ones": (
        one_of_eight_bits(PIXELS / 255),
        r"in 39 of 40 images, the first at index 0; they look scaled to 0..1",
        scaled_back,
    ),
    "one 0..1 picture among 8-bit ones": (
        np.concatenate([PIXELS[:7], PIXELS[7:8] / 255, PIXELS[8:]]),
        r"in 1 of 40 images, the first at index 7; they look scaled to 0..1",
        scaled_back,
    ),
    "0..1 with an undershoot": (
        changed(PIXELS / 255, -0.01),
        "scaled to 0..1, with an overshoot: clip them there, then multiply by 255",
        scaled_back,
    ),
    "an undershoot of -0.01": (
        changed(PIXELS, -0.01),
        r"in 1 of 40 images, the first at index 7; few pixels .*np.clip\(images, 0, 255\)",
        lambda images: np.clip(images, 0, 255),
    ),
    "-1..1": (
        PIXELS / 127.5 - 1,
        r"they look scaled to -1..1: add 1 and multiply by 127.5",
        lambda images: (images + 1) * 127.5,
    ),
    "z-scored": (
        (PIXELS - 113) / 60,
        "they look z-scored: multiply by the standard deviation and add the mean",
        lambda images: images * 60 + 113,
    ),
    "12 bits": (PIXELS * 16, "more than 8 bits: scale them to this range", lambda images: images / 16),
}


@pytest.mark.parametrize(("images", "says", "remedy"), DOORS.values(), ids=DOORS)
def test_another_scale_is_named_and_its_remedy_gives_the_pictures(images, says, remedy):
    # oracle: the gray values before
    with pytest.raises(ValueError, match=f"^images: expected gray values from 0 to 255, .*{says}"):
        prepare_images(images, GRAY)
    with pytest.raises(ValueError, match=says):
        prepare_images(torch.from_numpy(images).float(), GRAY)
    mended = prepare_images(remedy(images), GRAY)[:, 0].numpy()
    different = np.abs(mended - PIXELS) > 1e-3
    assert different.sum() <= 1  # the pixel that was changed


def test_percent_are_named_where_they_cannot_be_gray_values_and_noted_where_they_may(caplog):
    unit = InputContract(value_range=(0.0, 1.0))
    with pytest.raises(ValueError, match="they look like percent: divide by 100"):
        prepare_images(PIXELS / 2.55, unit)
    assert prepare_images(PIXELS / 2.55 / 100, unit).max() == 1
    with caplog.at_level(logging.WARNING, "mousev1"):
        prepare_images(PIXELS / 2.55, GRAY)
    assert "the brightest gray value is 100: if they are percent, multiply by 2.55" in caplog.text
    caplog.clear()
    prepare_images(PIXELS / 2.55 * 2.55, GRAY)
    assert not caplog.records


def test_dark_pictures_of_whole_numbers_stay_what_they_are():
    dark = PIXELS.copy()
    dark[3] = dark[3] > 128
    assert (prepare_images(dark, GRAY)[:, 0].numpy() == dark).all()


def test_a_masked_picture_is_refused_and_one_with_an_empty_mask_taken():
    whole = np.ma.masked_array(PIXELS, mask=False)
    assert (prepare_images(whole, GRAY)[:, 0].numpy() == PIXELS).all()
    with pytest.raises(ValueError, match=r"images: .*masked array with [\d,]+ of 24,000 values masked"):
        prepare_images(np.ma.masked_greater(PIXELS, 200), GRAY)


# ---------------------------------------------------------------- files


def test_pictures_with_unpadded_numbers_come_in_the_order_of_the_numbers(tmp_path: Path):
    # oracle: the arrays that were saved, one number each
    for i in range(12):
        Image.fromarray(np.full((20, 30), 10 * i, np.uint8)).save(tmp_path / f"natural_{i}.png")
    stack = prepare_images(tmp_path, GRAY)
    assert stack[:, 0, 0, 0].tolist() == [10 * i for i in range(12)]
    assert [path.name for path in picture_files(tmp_path)][9:] == [f"natural_{i}.png" for i in (9, 10, 11)]
    names = ["b10", "b2", "a", "b02", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "b2", "b02", "b10"]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp", ".gif", ".webp"])
def test_the_usual_formats_are_read(ending, tmp_path: Path):
    gray = np.full((20, 30), 100, np.uint8)
    Image.fromarray(gray).save(tmp_path / f"one{ending}")
    assert np.abs(prepare_images(tmp_path, GRAY)[0, 0].numpy().astype(int) - 100).max() <= 1


def test_postscript_never_starts_another_program(tmp_path: Path, monkeypatch):
    # oracle: Pillow's own door to Ghostscript, which would be called to read the file
    from PIL import EpsImagePlugin

    def called(*arguments: object, **options: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", called)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "figure.eps")
    (tmp_path / "figure.eps").rename(tmp_path / "figure.png")
    with pytest.raises(ValueError, match=r"figure.png is not a sound picture"):
        prepare_images(tmp_path / "figure.png", GRAY)
    (tmp_path / "figure.png").rename(tmp_path / "figure.eps")
    with pytest.raises(
        ValueError, match=r"expected a picture as 'PNG', 'JPEG', .*figure.eps; save it as .png"
    ):
        prepare_images(tmp_path / "figure.eps", GRAY)
    with pytest.raises(ValueError, match=r"expected pictures in the folder"):
        prepare_images(tmp_path, GRAY)


def test_videos_and_files_of_several_pictures_are_refused_by_what_they_are(tmp_path: Path):
    (tmp_path / "film.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(
        ValueError, match=r"film.mp4 is a video; videos are not read: save its frames as .png"
    ):
        prepare_images(tmp_path / "film.mp4", GRAY)
    frames = [Image.fromarray(np.full((20, 30), gray, np.uint8)) for gray in (0, 100, 200)]
    for name in ("film.gif", "stack.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match=rf"{name} holds 3 pictures; videos are not read"):
            prepare_images(tmp_path / name, GRAY)
    # the remedy: each on its own
    for i, frame in enumerate(frames):
        frame.save(tmp_path / f"{i}.png")
    assert prepare_images(sorted(tmp_path.glob("?.png")), GRAY)[:, 0, 0, 0].tolist() == [0, 100, 200]


def test_paths_of_pictures_may_begin_at_home(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(tmp_path / "one.png")
    assert prepare_images("~/one.png", GRAY).max() == 9
