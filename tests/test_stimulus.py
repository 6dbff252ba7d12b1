"""Pictures become raw gray values. Oracles: Pillow's own conversion, gratings, hand-made arrays."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mousev1.core.network import Core, InputContract
from mousev1.data.images import image_identities, prepare_images
from mousev1.data.pictures import picture_files

GRAY = InputContract()
UNIT = InputContract(value_range=(0.0, 1.0))


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(5, 20, 30), (5, 1, 20, 30)])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "float16", "int64", "int16"])
def test_arrays_keep_their_gray_values(shape: tuple[int, ...], kind: str, dtype: str) -> None:
    pixels = noise(*shape)
    array: Any = pixels.astype(dtype)
    prepared = prepare_images(torch.from_numpy(array) if kind == "torch" else array, GRAY)
    assert prepared.shape == (5, 1, 20, 30)
    assert prepared.dtype == (torch.float32 if dtype.startswith("float") else torch.uint8)
    assert (prepared.numpy().reshape(shape) == pixels).all()


def test_a_single_image_and_a_list_of_images_are_taken() -> None:
    pixels = noise(2, 20, 30)
    assert (prepare_images(pixels[0], GRAY)[0, 0].numpy() == pixels[0]).all()
    for items in (list(pixels), [pixels[0], torch.from_numpy(pixels[1])[None]], tuple(pixels)):
        assert (prepare_images(items, GRAY)[:, 0].numpy() == pixels).all()


def test_preparing_uint8_images_makes_no_copy() -> None:
    pixels = noise(200, 36, 64)
    prepared = prepare_images(pixels, GRAY)
    assert np.shares_memory(prepared.numpy(), pixels)
    tensor = torch.from_numpy(pixels).float()
    assert prepare_images(tensor, GRAY).data_ptr() == tensor.data_ptr()


def test_thirty_thousand_images_are_prepared_and_told_apart_in_little_memory() -> None:
    pixels = noise(30000, 36, 64)
    tracemalloc.start()
    prepared = prepare_images(pixels, GRAY)
    ids = image_identities(prepared)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(ids)) == 30000
    assert peak < pixels.nbytes / 5


def test_read_only_reversed_and_big_endian_arrays_are_taken_without_warning() -> None:
    pixels = noise(3, 20, 30)
    pixels.flags.writeable = False
    assert (prepare_images(pixels, GRAY)[:, 0].numpy() == pixels).all()
    assert (prepare_images(pixels[:, ::-1], GRAY)[:, 0].numpy() == pixels[:, ::-1]).all()
    assert (prepare_images(pixels.astype(">f4"), GRAY)[:, 0].numpy() == pixels).all()


def test_gradients_pass_through() -> None:
    images = torch.full((1, 1, 36, 64), 100.0, requires_grad=True)
    prepare_images(images, GRAY).sum().backward()
    assert images.grad is not None
    assert (images.grad == 1).all()


# ---------------------------------------------------------------- pictures


def test_colour_becomes_luminance_exactly_as_pillow_has_it() -> None:
    pixels = noise(40, 50, 3)
    picture = Image.fromarray(pixels)
    expected = np.asarray(picture.convert("L"))
    from_array = prepare_images(np.moveaxis(pixels, -1, 0)[None], GRAY)
    from_picture = prepare_images(picture, GRAY)
    assert from_array.dtype == from_picture.dtype == torch.uint8
    assert (from_picture[0, 0].numpy() == expected).all()
    assert (from_array[0, 0].numpy() == expected).all()
    floats = prepare_images(np.moveaxis(pixels, -1, 0)[None].astype(np.float32), GRAY)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(floats[0, 0].numpy(), pixels @ weights, atol=0.02)


def test_colour_cores_get_colour_and_gray_repeated() -> None:
    pixels = noise(40, 50, 3)
    colour = prepare_images(Image.fromarray(pixels), GRAY, channels=3)
    assert (colour[0].numpy() == np.moveaxis(pixels, -1, 0)).all()
    gray = prepare_images(pixels[:, :, 0], GRAY, channels=3)
    assert (gray[0].numpy() == pixels[:, :, 0]).all()
    assert gray.shape == (1, 3, 40, 50)


def test_files_and_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    pixels = noise(3, 20, 30)
    for name, image in zip(("b.png", "a.PNG", "c.tif"), pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    assert [file.name for file in picture_files(tmp_path)] == ["a.PNG", "b.png", "c.tif"]
    order = pixels[[1, 0, 2]]
    for source in (tmp_path, str(tmp_path), [tmp_path], sorted(map(str, picture_files(tmp_path)))):
        assert (prepare_images(source, GRAY)[:, 0].numpy() == order).all()
    assert (prepare_images([tmp_path / "c.tif", tmp_path], GRAY)[:, 0].numpy() == pixels[[2, 1, 0, 2]]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F"])
def test_every_usual_kind_of_picture_becomes_its_gray_values(mode: str, tmp_path: Path) -> None:
    levels = np.zeros((20, 30), np.uint8)
    levels[:, 15:] = 255
    picture = Image.fromarray(levels).convert("RGB").convert(mode)
    prepared = prepare_images(picture, GRAY)
    assert prepared.dtype == (torch.float32 if mode == "F" else torch.uint8)
    np.testing.assert_allclose(prepared[0, 0].numpy(), levels, atol=1)


def test_sixteen_bit_pictures_are_refused_and_not_squeezed_into_eight(tmp_path: Path) -> None:
    Image.fromarray(noise(20, 30).astype(np.uint16) * 256).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="more than 8 bits"):
        prepare_images(tmp_path / "deep.png", GRAY)


def test_pictures_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    pixels = noise(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert (prepare_images(tmp_path / "turned.png", GRAY)[0, 0].numpy() == np.rot90(pixels, -1)).all()


def test_eight_bit_pictures_are_brought_to_the_range_of_the_core() -> None:
    prepared = prepare_images(Image.fromarray(noise(20, 30)), UNIT)
    np.testing.assert_allclose(prepared[0, 0].numpy(), noise(20, 30) / 255, atol=1e-6)


# ---------------------------------------------------------------- resampling


def grating(cycles_per_pixel: float, *, size: int = 240) -> np.ndarray[Any, np.dtype[np.float32]]:
    phase = 2 * np.pi * cycles_per_pixel * np.arange(size)
    return np.tile(127.5 + 100 * np.sin(phase), (size, 1)).astype(np.float32)


def test_a_grating_beyond_the_new_resolution_vanishes_instead_of_aliasing() -> None:
    # 4 times fewer pixels: Nyquist is at 1/8 cycle per old pixel, and .22 would alias to .12 per new pixel.
    prepared = prepare_images(grating(0.22), GRAY, pixels_per_degree=4 * 0.53)[0, 0, 4:-4, 4:-4]
    assert prepared.std() < 0.03 * grating(0.22).std()
    assert grating(0.22)[::4, ::4].std() > 0.9 * grating(0.22).std()  # what plain subsampling would show


def test_a_coarse_grating_survives_resampling_in_place() -> None:
    prepared = prepare_images(grating(0.01), GRAY, pixels_per_degree=4 * 0.53)[0, 0]
    assert prepared.shape == (60, 60)
    # The centre of new pixel i lies at old pixel 4 i + 1.5.
    expected = 127.5 + 100 * np.sin(2 * np.pi * 0.01 * (4 * np.arange(60) + 1.5))
    np.testing.assert_allclose(prepared[30, 4:-4].numpy(), expected[4:-4], atol=2)


@pytest.mark.parametrize(
    ("source", "expected"), [(1.06, (18, 32)), (0.53, (36, 64)), (0.265, (72, 128)), (2.0, (10, 17))]
)
def test_the_new_size_is_the_rounded_ratio_of_resolutions(source: float, expected: tuple[int, int]) -> None:
    prepared = prepare_images(noise(2, 36, 64), GRAY, pixels_per_degree=source)
    assert prepared.shape == (2, 1, *expected)
    assert prepared.dtype == (torch.uint8 if source == 0.53 else torch.float32)


def test_resampling_stays_in_range_and_keeps_flat_images_flat() -> None:
    checkers = np.kron(np.indices((9, 16)).sum(axis=0) % 2, np.ones((4, 4))).astype(np.uint8) * 255
    for source in (0.3, 0.8):
        prepared = prepare_images(checkers, GRAY, pixels_per_degree=source)
        assert float(prepared.min()) >= 0
        assert float(prepared.max()) <= 255
    flat = prepare_images(np.full((36, 64), 200, np.uint8), GRAY, pixels_per_degree=1.7)
    np.testing.assert_allclose(flat.numpy(), 200, atol=1e-3)


def test_resampling_many_images_equals_resampling_each() -> None:
    pixels = noise(1030, 18, 20)
    together = prepare_images(pixels, GRAY, pixels_per_degree=0.7)
    for index in (0, 1023, 1024, 1029):
        alone = prepare_images(pixels[index], GRAY, pixels_per_degree=0.7)
        assert (together[index] == alone[0]).all()


@pytest.mark.parametrize("source", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_resolutions_are_refused(source: float) -> None:
    with pytest.raises(ValueError, match=r"pixels_per_degree: expected a positive number"):
        prepare_images(noise(36, 64), GRAY, pixels_per_degree=source)


def test_images_that_would_shrink_to_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="36 x 64 pixels would shrink to 0 x 0"):
        prepare_images(noise(36, 64), GRAY, pixels_per_degree=100.0)


def test_other_sizes_are_prepared_and_the_core_refuses_those_below_its_kernel() -> None:
    core = Core.random(seed=0)
    assert core(prepare_images(noise(40, 20), GRAY).float()).shape == (1, 64, 26, 6)
    with pytest.raises(ValueError, match="at least 15 x 15 pixels"):
        core(prepare_images(noise(14, 20), GRAY).float())


# ---------------------------------------------------------------- refusals


def nan_at(index: int) -> np.ndarray[Any, Any]:
    images = noise(4, 20, 30).astype(np.float32)
    images[index, 3, 3] = np.nan
    return images


REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": (nan_at(2), r"NaN in 1 of 4 images, the first at index 2"),
    "infinite": (np.full((2, 20, 30), np.inf), r"expected gray values from 0 to 255, got inf"),
    "0..1": (noise(4, 20, 30) / 255, r"got 0 to 1; they look scaled to 0..1: multiply by 255"),
    "whole 0..1": (noise(4, 20, 30) // 128, r"got 0 to 1; they look scaled to 0..1: multiply by 255"),
    "z-scored": (noise(4, 20, 30) / 60.0 - 2, r"they look z-scored: multiply by the standard deviation"),
    "12 bits": (noise(4, 20, 30).astype(np.uint16) * 16, r"got 0 to 4080; they look like more than 8 bits"),
    "negative integers": (noise(4, 20, 30).astype(np.int32) - 100, r"got -100 to 155"),
    "empty list": ([], r"got an empty list"),
    "empty array": (np.zeros((0, 20, 30), np.uint8), r"expected at least one image, got \(0, 1, 20, 30\)"),
    "one axis": (np.zeros(30, np.uint8), r"expected \(N, H, W\), .* got \(30,\)"),
    "five axes": (np.zeros((1, 1, 1, 20, 30), np.uint8), r"got \(1, 1, 1, 20, 30\)"),
    "colours last": (noise(20, 30, 3), r"last axis of \(20, 30, 3\) looks like colours"),
    "many with colours last": (noise(5, 20, 30, 3), r"last axis of \(20, 30, 3\) looks like colours"),
    "two channels": (noise(5, 2, 20, 30), r"expected 1 channel in .* got \(5, 2, 20, 30\)"),
    "mixed sizes": (
        [noise(20, 30), noise(20, 31), noise(20, 30)],
        r"expected one size.*2 of 1x20x30 .*; 1 of 1x20x31",
    ),
    "list of stacks": ([noise(2, 2, 20, 30)], r"every array of a list as \(H, W\)"),
    "transparent": (Image.new("RGBA", (30, 20), (9, 9, 9, 100)), r"partly transparent"),
}


@pytest.mark.parametrize(("images", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_unfit_images_are_refused_with_the_remedy(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^images: .*{message}"):
        prepare_images(images, GRAY)
    if isinstance(images, np.ndarray) and images.dtype != np.uint16:
        with pytest.raises(ValueError, match=r"^images: "):
            prepare_images(torch.from_numpy(images), GRAY)


def test_eight_bit_arrays_for_a_core_of_unit_range_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"from 0 to 1, got 0 to 255; they look like 8-bit pictures: divide by 255"
    ):
        prepare_images(noise(2, 20, 30), UNIT)
    assert prepare_images(noise(2, 20, 30) / 255, UNIT).dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_blank_and_dark_images_are_not_taken_for_scaled_ones(value: float) -> None:
    assert prepare_images(np.full((1, 20, 30), value), GRAY).max() == value


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 20, 30), bool), "booleans; multiply"),
        (torch.zeros(2, 20, 30, dtype=torch.bool), "multiply masks by 255"),
        (np.array([["a", "b"]]), "expected uint8 or float gray values"),
        ({"image": 1}, "got dict"),
        (5, "got int"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^images: .*{message}"):
        prepare_images(images, GRAY)


def test_missing_broken_and_empty_paths_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent.png"):
        prepare_images(tmp_path / "absent.png", GRAY)
    with pytest.raises(ValueError, match=r"expected pictures in the folder .*, found none"):
        prepare_images(tmp_path, GRAY)
    Image.fromarray(noise(200, 300)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cut.png is not a sound picture"):
        prepare_images(tmp_path, GRAY)
    (tmp_path / "cut.png").write_bytes(b"GIF?")
    with pytest.raises(ValueError, match=r"cut.png is not a sound picture"):
        prepare_images(tmp_path / "cut.png", GRAY)


def test_pictures_of_mixed_sizes_are_listed_with_their_names(tmp_path: Path) -> None:
    for name, shape in (("a.png", (20, 30)), ("b.png", (20, 30)), ("c.png", (40, 30))):
        Image.fromarray(noise(*shape)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"2 of 1x20x30 \(.*a.png', .*b.png'\); 1 of 1x40x30 \(.*c.png'\)"):
        prepare_images(tmp_path, GRAY)


# ---------------------------------------------------------------- identity


def test_equal_images_and_only_those_share_an_id() -> None:
    pixels = noise(6, 20, 30)
    pixels[4] = pixels[1]
    pixels[5] = pixels[0]
    pixels[5, 19, 29] ^= 1
    ids = image_identities(pixels)
    assert ids.dtype == np.int64
    assert ids[4] == ids[1]
    assert len(np.unique(ids)) == 5
    assert (image_identities(torch.from_numpy(pixels)[:, None]) == ids).all()
    assert (image_identities(pixels[[3, 1]]) == ids[[3, 1]]).all()  # the same in another call


def test_identities_need_images() -> None:
    with pytest.raises(ValueError, match=r"images: expected numbers as \(N, ...\)"):
        image_identities(np.zeros(3))
