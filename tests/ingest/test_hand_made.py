"""A session small enough to count by hand, and the ways labs write theirs. Oracle: the counts written here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ingest.sessions import (
    RIG,
    Session,
    small_session,
    write_pictures,
    write_side_files,
    write_suite2p,
    write_suite2p_arrays,
    write_table,
)
from mousev1.core.network import InputContract
from mousev1.data.scan import Scan
from mousev1.ingest import LogFormat, NeuronSelection, Report, ResponseWindow, Rig, TierSplit, read_session
from mousev1.ingest.pictures import match, natural_key
from mousev1.ingest.responses import without_decay
from mousev1.ingest.rig import read_rig
from mousev1.ingest.tables import find_column, read_table
from mousev1.ingest.tiers import tiers_of


def ones(frames: int = 100) -> np.ndarray:
    """Two neurons, ten frames a second: the first counts frames, the second is the number of the frame."""
    return np.stack([np.ones(frames), np.arange(frames)]).astype(np.float32)


def counted(traces: np.ndarray, onset: Any, image: Any, **options: Any) -> tuple[Scan, Report]:
    """A scan of one plane at 10 Hz, with pictures a to f."""
    report = Report()
    pictures = {name: np.full((36, 64), 10 * i, np.uint8) for i, name in enumerate("abcdef", start=1)}
    source = options.pop("source")
    np.save(source / "spks.npy", traces)
    np.save(source / "fs.npy", 10.0)
    log = {"onset_s": np.asarray(onset, float), "image": np.asarray(image)}
    options.setdefault("window", ResponseWindow(start=0.0, stop=0.5))
    return read_session(source, log=log, pictures=pictures, report=report, **options), report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arrays").mkdir()
    return tmp_path / "arrays"


def test_partial_frames_count_in_part(folder: Path) -> None:
    # Neurons must vary between training trials, so the first is looked at through its sums alone.
    traces = np.stack([np.arange(100.0), np.arange(100.0) ** 2]).astype(np.float32)
    scan, _ = counted(traces, [1.0, 2.03, 3.05, 4.0], list("abcd"), source=folder)
    # 1.0 to 1.5 s: frames 10 to 14. 2.03 to 2.53: .7 of frame 20, 21 to 24, .3 of frame 25.
    expected = [
        10 + 11 + 12 + 13 + 14,
        0.7 * 20 + 21 + 22 + 23 + 24 + 0.3 * 25,
        0.5 * 30 + 31 + 32 + 33 + 34 + 0.5 * 35,
    ]
    np.testing.assert_allclose(scan.responses[:3, 0], expected, rtol=1e-6)


def test_every_trial_is_counted_once_by_what_became_of_it(folder: Path) -> None:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 100)).astype(np.float32)
    traces[:, 20:24] = np.nan  # four frames lost: the window of 2.0 has one of five, that of 2.2 three
    onset = [-3.0, -0.2, 1.0, 2.0, 2.2, 3.0, 4.0, 5.0, 6.0, 6.3, 9.7, 12.0, 7.0, np.nan]
    image = ["a", "a", "b", "b", "c", "c", "d", "e", "f", "a", "b", "c", "gray", "d"]
    scan, report = counted(
        traces, onset, image, source=folder, window=ResponseWindow(start=0, stop=0.5, min_coverage=0.5)
    )
    counts = report.counts
    assert counts["rows of the log without an onset, dropped"] == 1
    assert counts["presentations of a blank screen ('gray'), left out"] == 1
    assert counts["presentations outside of the recording, dropped"] == 2
    assert counts["trials cut at the start or end of the recording, dropped"] == 2
    assert counts["frames that are NaN, over all planes"] == 4
    assert counts["trials with frames in less than 50% of their window, dropped"] == 1
    assert counts["trials kept with some frames missing, scaled to the full window"] == 1
    assert counts["trials whose window overlaps the next trial's"] == 2
    assert counts["trials in the scan"] == scan.n_trials == 7
    assert sum(scan.tier_sizes.values()) == 7
    np.testing.assert_allclose(scan.covariates["trial_time"], [1.0, 2.2, 3.0, 4.0, 5.0, 6.0, 6.3])
    # 2.2 to 2.7: frames 24, 25, 26 are there, two are lost.
    np.testing.assert_allclose(scan.responses[1], traces[:, 24:27].sum(axis=1) * 5 / 3, rtol=1e-5)


def test_gaps_in_frame_times_are_counted_and_frames_keep_their_time(folder: Path) -> None:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 60)).astype(np.float32)
    times = np.arange(60) / 10 + 100.0
    times[30:] += 0.3  # three frames were dropped between the 30th and the 31st
    scan, report = counted(
        traces, [101.0, 102.9, 104.0, 105.0], list("abcd"), source=folder, frame_times=times
    )
    assert report.counts["frames missing between two others, over all planes"] == 3
    # The window of 102.9 holds one frame before the gap and one after it.
    assert report.counts["trials with frames in less than 75% of their window, dropped"] == 1
    # 104.0 to 104.5 lies 3.7 s of frames after the start: frames 37 to 41.
    np.testing.assert_allclose(scan.responses[1], traces[:, 37:42].sum(axis=1), rtol=1e-5)


def test_neurons_that_never_respond_in_training_are_left_out_and_counted(folder: Path) -> None:
    traces = np.concatenate([np.zeros((1, 100)), np.random.default_rng(0).gamma(1.0, size=(2, 100))]).astype(
        np.float32
    )
    np.save(folder / "iscell.npy", np.ones(3))
    scan, report = counted(traces, [1, 2, 3, 4.0], list("abcd"), source=folder)
    assert scan.unit_ids.tolist() == [1, 2]
    assert report.counts["neurons with the same response in all training trials, left out"] == 1


def test_a_lag_between_the_clocks_is_added_to_every_onset(folder: Path) -> None:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 100)).astype(np.float32)
    expected, _ = counted(traces, [1, 2, 3, 4.0], list("abcd"), source=folder)
    far = 1.7e9 + np.array([1, 2, 3, 4.0])
    with pytest.raises(ValueError, match=r"no trial lies within the recording.*--lag"):
        counted(traces, far, list("abcd"), source=folder)
    window = ResponseWindow(start=0.0, stop=0.5, lag=-1.7e9)
    scan, _ = counted(traces, far, list("abcd"), source=folder, window=window)
    np.testing.assert_allclose(scan.responses, expected.responses, rtol=1e-4)


def test_the_chosen_window_finds_a_delay_that_was_planted(folder: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.permutation(np.repeat(list("abcdef"), 20))
    onset = 2.0 + 2.0 * np.arange(120)
    traces = rng.gamma(1.0, 0.05, size=(8, 2500))
    drive = rng.gamma(1.0, size=(8, 6))
    for start, name in zip(onset, image, strict=True):
        first = round(10 * (start + 0.4))
        traces[:, first : first + 4] += drive[:, ["abcdef".index(name)]]
    scan, report = counted(traces.astype(np.float32), onset, image, source=folder, window="auto")
    [note] = [note for note in report.notes if "window chosen on half of the repeats" in note]
    lag = float(note.split("a lag of ")[1].split(" s")[0])
    assert 0.2 <= lag <= 0.4
    own, default = note.split("the other half ")[1].split(", of the default ")
    assert float(own) > float(default)
    assert scan.n_units == 8


def test_fluorescence_without_its_decay_is_the_activity_behind_it(folder: Path) -> None:
    events = np.random.default_rng(0).gamma(1.0, size=(2, 100)) + np.array([[0.0], [2.0]])
    traces = np.zeros((2, 100))
    for frame in range(100):
        traces[:, frame] = traces[:, frame - 1] * np.exp(-0.1 / 0.5) * (frame > 0) + events[:, frame]
    np.testing.assert_allclose(without_decay(traces, 10.0, 0.5)[:, 1:], events[:, 1:], rtol=1e-9)
    # Frame 33 is lost, and what is left of it in frame 34 unknown: two of the five of the third trial.
    traces[:, 33] = np.nan
    np.save(folder / "dff.npy", traces)
    np.save(folder / "fs.npy", 10.0)
    log = {"onset_s": np.arange(1, 5.0), "image": np.array(list("abcd"))}
    pictures = dict.fromkeys("abcd", np.zeros((36, 64), np.uint8))
    kept = []
    for least in (0.5, 0.7):
        chosen = NeuronSelection(signal="fluorescence", decay=0.5)
        window = ResponseWindow(start=0.0, stop=0.5, min_coverage=least)
        kept.append(read_session(folder, log=log, pictures=pictures, neurons=chosen, window=window).n_trials)
    assert kept == [4, 3]


def test_tiers_in_the_log_are_kept_and_an_image_in_two_is_refused(folder: Path) -> None:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 100)).astype(np.float32)
    np.save(folder / "spks.npy", traces)
    np.save(folder / "fs.npy", 10.0)
    pictures = {name: np.full((36, 64), 9, np.uint8) for name in "abcdef"}
    split = np.array(["train", "Train", "val", "test", "training", "train"])
    log = {"onset_s": np.arange(1.0, 7.0), "image": np.array(list("abcdef")), "split": split}
    scan = read_session(folder, log=log, pictures=pictures)
    assert scan.tiers.tolist() == ["train", "train", "validation", "test", "train", "train"]
    log["image"] = np.array(list("abcaef"))
    with pytest.raises(
        ValueError, match=r"all trials of an image in one tier, got 1 images.*'a'.*--ignore-tiers"
    ):
        read_session(folder, log=log, pictures=pictures)
    again = read_session(folder, log=log, pictures=pictures, log_format=LogFormat(ignore_tiers=True))
    assert again.tier_sizes == {"train": 3, "validation": 1, "test": 2}


def test_without_repeats_the_tiers_are_drawn_by_seed(folder: Path) -> None:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 200)).astype(np.float32)
    split = TierSplit(validation=0.5, test=1 / 3, seed=1)
    scan, report = counted(traces, np.arange(1, 7), list("abcdef"), source=folder, tiers=split)
    assert scan.tier_sizes == {"train": 2, "validation": 2, "test": 2}
    assert any(
        "all images were shown about 1 times: 2 drawn with seed 1 are test" in line for line in report.assumed
    )
    again, _ = counted(traces, np.arange(1, 7), list("abcdef"), source=folder, tiers=split)
    other, _ = counted(traces, np.arange(1, 7), list("abcdef"), source=folder, tiers=replace(split, seed=5))
    assert again.tiers.tolist() == scan.tiers.tolist() != other.tiers.tolist()


@pytest.mark.parametrize(
    ("counts", "test"),
    [
        ([1, 1, 1, 10, 10], [3, 4]),
        ([2, 2, 2, 1, 10], [4]),  # training images shown twice, one trial lost
        ([1, 10, 10, 9], [1, 2, 3]),
        ([2, 2, 3], [2]),
        ([10, 10, 9], None),  # nothing is repeated more than the rest
        ([5, 5, 6], None),
    ],
)
def test_images_shown_clearly_more_often_are_test(counts: list[int], test: list[int] | None) -> None:
    report = Report()
    image = np.repeat(np.arange(len(counts)), counts)
    tiers = tiers_of(image, None, [], TierSplit(test=0.4), report)
    found = np.unique(image[tiers == "test"]).tolist()
    assert found == test if test is not None else (len(found) == 1 and report.assumed)


def test_a_column_of_other_sets_is_no_column_of_tiers(folder: Path) -> None:
    np.save(folder / "spks.npy", np.random.default_rng(0).gamma(1.0, size=(2, 100)))
    np.save(folder / "fs.npy", 10.0)
    log = {
        "onset_s": np.arange(1.0, 7.0),
        "image": np.array(list("abcdef")),
        "set": np.array(["natural"] * 6),
    }
    pictures = dict.fromkeys("abcdef", np.zeros((36, 64), np.uint8))
    report = Report()
    assert read_session(folder, log=log, pictures=pictures, report=report).n_trials == 6
    assert "log: 'natural' are no tiers; images are divided anew" in report.notes
    log["onset_s"] = np.full(6, np.nan)
    with pytest.raises(ValueError, match="expected times in the column 'onset_s', got none"):
        read_session(folder, log=log, pictures=pictures)


# ---------------------------------------------------------------- logs and pictures


@pytest.mark.parametrize(
    ("names", "onset", "image"),
    [
        (["onset_s", "image", "duration_s", "blank_s"], "onset_s", "image"),
        (["Stim Onset (ms)", "Filename"], "Stim Onset (ms)", "Filename"),
        (["stimOnsetTime", "imageName", "trial"], "stimOnsetTime", "imageName"),
        (["frame", "stimulus"], "frame", "stimulus"),
        (["start_frame", "end_frame", "picture"], "start_frame", "picture"),
        (["t_start", "t_stop", "img_id"], "t_start", "img_id"),
        (["time", "image_file", "image_id"], "time", "image_file"),
        (["onset_frame", "onset_s", "image"], "onset_s", "image"),
        (["start_time", "stop_time", "stim_name"], "start_time", "stim_name"),
        (["timestamp", "image_index"], "timestamp", "image_index"),
        (["onset_s", "condition", "image_id"], "onset_s", "image_id"),
        (["onset_s", "condition", "trial"], "onset_s", "condition"),
    ],
)
def test_columns_are_recognised_by_the_names_that_labs_give_them(
    names: list[str], onset: str, image: str
) -> None:
    texts = {"condition", "image", "Filename", "imageName", "stimulus", "picture", "image_file", "stim_name"}
    table = {name: np.array(["x.png"]) if name in texts else np.array([1.0]) for name in names}
    assert find_column(table, "onset") == onset
    assert find_column(table, "image") == image


def test_two_columns_that_fit_alike_are_asked_about() -> None:
    table = {"onset": np.array([1.0]), "stim_onset": np.array([2.0])}
    with pytest.raises(ValueError, match=r"'onset', 'stim_onset' may each be the onset.*--column onset=NAME"):
        find_column(table, "onset")
    assert find_column(table, "onset", "stim_onset") == "stim_onset"


@pytest.mark.parametrize(("unit", "factor"), [("s", 1.0), ("ms", 1000.0), ("frames", 15.0)])
@pytest.mark.parametrize("named", [True, False])
def test_onsets_in_seconds_milliseconds_or_frames_give_one_scan(
    unit: str, factor: float, named: bool, tmp_path: Path
) -> None:
    session = small_session(planes=1)
    session.onset = np.round(session.onset * 15) / 15 + 20
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    expected = read_session(source, **beside)
    values = np.round(session.onset * factor, 6)
    values = np.rint(values).astype(int) if unit == "frames" else values
    column = f"onset_{unit}" if named else "onset"
    log = write_table(tmp_path / "log.csv", **{column: values, "image": session.image})
    scan = read_session(source, **{**beside, "log": log})
    np.testing.assert_allclose(scan.responses, expected.responses, rtol=1e-3)


def test_parquet_and_semicolons_are_read_as_csv_is(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"onset": [1.5, 2.5], "image": ["a.png", "b.png"], "n": [1, 2]}
    parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    (tmp_path / "log.csv").write_text(
        "\ufeff# made by hand\nonset;image;n\n1.5;a.png;1\n2.5;b.png;2\n", encoding="utf-8"
    )
    for name in ("log.parquet", "log.csv"):
        table = read_table(tmp_path / name)
        assert {key: values.tolist() for key, values in table.items()} == columns


def test_names_of_pictures_are_sorted_as_numbers_and_found_by_name() -> None:
    names = ["natural_10.png", "natural_2.png", "natural_1.png"]
    assert sorted(names, key=natural_key) == ["natural_1.png", "natural_2.png", "natural_10.png"]
    for shown in (
        ["natural_2.png", "natural_10.png"],
        [r"D:\stim\natural_2.png", "/stim/natural_10.png"],
        ["natural_2", "natural_10"],
        ["Natural_002.jpg", "Natural_010.jpg"],
        [2.0, 10.0],
    ):
        assert match(np.array(shown), names)[0].tolist() == [1, 0]
    assert match(np.array([0.0, 2.0]), sorted(names, key=natural_key), index_base=0)[0].tolist() == [0, 2]
    with pytest.raises(
        ValueError, match=r"1 of 2 images of the log are not among the 3 pictures.*'natural_3\.png'"
    ):
        match(np.array(["natural_3.png", "natural_1.png"]), names)
    assert match(np.array([-1.0, 1.0, np.nan]), names)[0].tolist() == [-1, 2, -1]
    with pytest.raises(ValueError, match="fit several"):
        match(np.array([1.0]), ["a_1.png", "b_1.png"])


def test_jpegs_colours_and_pictures_never_shown_are_no_obstacle(tmp_path: Path) -> None:
    session = small_session(planes=1)
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    folder = write_pictures(session, tmp_path / "jpegs", "jpg")
    Image.new("RGB", (32, 24), (200, 30, 90)).save(folder / "never_shown.png")
    (folder / "notes.txt").write_text("x")
    report = Report()
    log = write_table(
        tmp_path / "l.csv", onset_s=session.onset, image=[name[:-4] + ".jpg" for name in session.image]
    )
    scan = read_session(source, **{**beside, "pictures": folder, "log": log}, report=report)
    assert scan.n_images == 12
    assert report.counts["pictures never shown, left out"] == 1
    # .299 x 200 + .587 x 30 + .114 x 90
    Image.new("RGB", (64, 36), (200, 30, 90)).save(folder / "natural_0.jpg", quality=100, subsampling=0)
    scan = read_session(source, **{**beside, "pictures": folder, "log": log})
    shown = scan.images[scan.image_ids.tolist().index("natural_0.jpg"), 0]
    assert abs(int(shown[18, 32]) - 88) <= 1


# ---------------------------------------------------------------- screen, rig, behaviour, planes


def seen(picture: np.ndarray, session_folder: Path, **rig: Any) -> np.ndarray:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 100)).astype(np.float32)
    np.save(session_folder / "spks.npy", traces)
    np.save(session_folder / "fs.npy", 10.0)
    log = {"onset_s": np.array([1, 2, 3.0]), "image": np.array(list("abc"))}
    pictures = dict.fromkeys("abc", picture)
    return read_session(session_folder, log=log, pictures=pictures, rig=Rig(**rig)).images[0, 0]


def test_a_picture_stands_where_the_rig_says_and_gray_is_around_it(folder: Path) -> None:
    picture = np.full((10, 20), 200, np.uint8)
    # 0.5 pixels per degree would be simple; the core has .53: 20 x 10 degrees are 10.6 x 5.3 pixels.
    image = seen(picture, folder, picture_width_deg=20, picture_height_deg=10, background_gray=100)
    assert (image[16:20, 27:37] == 200).all()
    assert (image[:15] == 100).all()
    assert image[18, 26] == round(100 + 100 * 0.3)  # .3 of the pixel is covered
    moved = seen(
        picture,
        folder,
        picture_width_deg=20,
        picture_height_deg=10,
        background_gray=100,
        picture_center_deg=(20, 10),
    )
    assert (moved[11:14, 38:47] == 200).all()
    assert (moved[18:, :] == 100).all()


def test_pictures_are_averaged_and_never_aliased(folder: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (72, 320))
    image = seen(
        stripes, folder, picture_width_deg=64 / 0.53, picture_height_deg=36 / 0.53, background_gray=0
    )
    assert np.abs(image.astype(int) - 127.5).max() <= 1


def test_gamma_turns_gray_values_into_luminance(folder: Path) -> None:
    image = seen(np.full((36, 64), 128, np.uint8), folder, gamma=2.2)
    assert (image == round(255 * (128 / 255) ** 2.2)).all()


def test_pictures_without_a_screen_must_be_of_the_cores_frame(folder: Path) -> None:
    assert (seen(np.full((36, 64), 77, np.uint8), folder) == 77).all()
    with pytest.raises(
        ValueError, match=r"'screen_width_cm', 'screen_height_cm', 'screen_distance_cm' missing"
    ):
        seen(np.full((24, 32), 77, np.uint8), folder)


@pytest.mark.parametrize(
    "values",
    [
        RIG,
        {
            "monitor width [mm]": 364,
            "monitorHeight_mm": 243,
            "viewing_distance_mm": 180,
            "pixel_size_um": 1.3,
            "background": 113,
        },
        {
            "screen": {"width_cm": 36.4, "height_cm": 24.3, "distance_cm": 18},
            "microscope": {"um_per_px": [1.3, 1.3]},
            "picture": "full screen, gray 113 outside",
        },
        {
            "width_cm": 36.4,
            "height_cm": 24.3,
            "distance_cm": 18,
            "um_per_pixel": 1.3,
            "background": 113 / 255,
        },
        {
            "display_size_cm": [36.4, 24.3],
            "eye_to_screen_distance_cm": 18,
            "microns_per_pixel": 1.3,
            "grey": 113,
        },
    ],
)
def test_a_rig_is_read_in_the_words_and_units_of_labs(values: dict[str, Any]) -> None:
    rig = read_rig(values, Report())
    assert rig.screen_width_cm == pytest.approx(36.4)
    assert rig.screen_height_cm == pytest.approx(24.3)
    assert rig.screen_distance_cm == pytest.approx(18)
    assert rig.um_per_pixel == (1.3, 1.3)
    assert rig.background_gray == pytest.approx(113)


def test_the_size_of_pictures_may_be_in_words_or_pixels_per_degree(folder: Path) -> None:
    rig = read_rig({"picture": "centred, 40 x 30 deg, grey background 100"}, Report())
    assert (rig.picture_width_deg, rig.picture_height_deg, rig.background_gray) == (40, 30, 100)
    picture = np.full((10, 20), 200, np.uint8)
    by_size = seen(picture, folder, picture_width_deg=20, picture_height_deg=10)
    np.testing.assert_array_equal(seen(picture, folder, picture_pixels_per_degree=1.0), by_size)
    report = Report()
    read_rig({"picture": "lower left"}, report)
    assert "gives no size: pictures fill the screen" in report.assumed[0]


def test_a_key_that_says_nothing_known_is_reported() -> None:
    report = Report()
    read_rig({"laser_nm": 920}, report)
    assert "rig: not used: laser_nm" in report.notes[0]
    with pytest.raises(ValueError, match="screen_width_cm: expected positive numbers"):
        read_rig({"screen_width_cm": -3}, report)


def test_behaviour_without_a_sample_in_a_window_is_between_its_neighbours_or_missing(tmp_path: Path) -> None:
    session = small_session(planes=1)
    time = np.concatenate([np.arange(0, 10, 1.0), np.arange(18, 30, 1.0)])
    session.running = np.column_stack([time, 2 * time])
    beside = write_side_files(session, tmp_path / "beside")
    scan = read_session(write_suite2p(session, tmp_path / "s"), **beside)
    running, middle = scan.covariates["running"], scan.covariates["trial_time"] + 0.3
    lost = (middle > 9) & (middle < 18)
    assert np.isnan(running[lost & (scan.covariates["trial_time"] + 0.55 < 18)]).all()
    np.testing.assert_allclose(running[~lost], 2 * middle[~lost], atol=1.01)
    assert not np.isnan(running[~lost]).any()


def test_depths_and_plane_delays_of_the_rig_are_used(tmp_path: Path) -> None:
    session = small_session()
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    rig = Rig(
        **{k: v for k, v in RIG.items() if k != "gray"}, plane_depths_um=(150, 200), plane_delays_s=(0, 0)
    )
    report = Report()
    scan = read_session(source, **{**beside, "rig": rig}, report=report)
    assert scan.positions is not None
    np.testing.assert_array_equal(scan.positions[:, 2], np.where(scan.neuron_meta["plane"] == 0, 150, 200))
    default = read_session(source, **beside, report=report)
    same = scan.neuron_meta["plane"] == 0
    np.testing.assert_array_equal(scan.responses[:, same], default.responses[:, same])
    assert not np.allclose(scan.responses[:, ~same], default.responses[:, ~same])
    assert "planes start at 0.0, 33.3 ms of a volume: it is divided equally" in report.assumed


@pytest.mark.parametrize("rate", [15.0, 30.0])
def test_a_frame_rate_of_all_planes_together_is_not_taken_for_that_of_each(
    rate: float, tmp_path: Path
) -> None:
    session = small_session()
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    report = Report()
    rig = {**RIG, "frame_rate_hz": rate, "monitor_frame_rate_hz": 60, "bit_depth": 8, "depth_um": 200}
    scan = read_session(source, **{**beside, "rig": rig}, report=report)
    np.testing.assert_array_equal(scan.responses, read_session(source, **beside).responses)
    noted = "15 frames of each plane per second (rig 30, recording 15)" in report.assumed
    assert noted == (rate == 30)
    assert scan.positions is not None
    assert scan.positions.shape[1] == 2


def test_plane_delays_of_ops_and_times_of_all_frames_in_turn_are_used(tmp_path: Path) -> None:
    session = small_session()
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    zero = Rig(**{k: v for k, v in RIG.items() if k != "gray"}, background_gray=113, plane_delays_s=(0, 0))
    together = read_session(source, **{**beside, "rig": zero})
    # Both planes at the start of each volume, said in turn frame by frame.
    times = np.repeat(np.arange(900) / 15.0, 2)
    np.testing.assert_allclose(
        read_session(source, **beside, frame_times=times).responses, together.responses, rtol=1e-6
    )
    for plane in (0, 1):
        ops = {"fs": 15.0, "nplanes": 2, "plane_delay_s": 0.0}
        np.save(source / f"plane{plane}" / "ops.npy", ops, allow_pickle=True)  # type: ignore[arg-type]
    report = Report()
    np.testing.assert_array_equal(read_session(source, **beside, report=report).responses, together.responses)
    assert "planes start at 0.0, 0.0 ms of a volume" in report.read


def test_bad_frames_of_suite2p_are_not_integrated(tmp_path: Path) -> None:
    session = small_session(planes=1)
    beside = write_side_files(session, tmp_path / "beside")
    source = tmp_path / "suite2p" / "plane0"
    source.mkdir(parents=True)
    write_suite2p_arrays(source, session.spks[0], session.iscell[0], session.med[0])
    bad = np.zeros(900, bool)
    bad[[100, 101]] = True
    np.save(source / "ops.npy", {"fs": 15.0, "badframes": bad}, allow_pickle=True)  # type: ignore[arg-type]
    report = Report()
    read_session(tmp_path / "suite2p", **beside, report=report)
    assert report.counts["frames marked as bad, over all planes"] == 2


def test_another_cores_frame_may_be_asked_for(folder: Path) -> None:
    traces = np.random.default_rng(0).gamma(1.0, size=(2, 100)).astype(np.float32)
    rig = Rig(screen_width_cm=36.4, screen_height_cm=24.3, screen_distance_cm=18)
    contract = InputContract(height=20, width=30, pixels_per_degree=0.25)
    scan, _ = counted(traces, [1, 2, 3.0], list("abc"), source=folder, rig=rig, contract=contract)
    assert scan.images.shape == (3, 1, 20, 30)


# ---------------------------------------------------------------- the command


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mousev1", "ingest", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def options_of(session: Session, root: Path) -> list[object]:
    beside = write_side_files(session, root / "beside")
    return [
        write_suite2p(session, root / "suite2p"),
        "--log",
        beside["log"],
        "--pictures",
        beside["pictures"],
    ]


def test_values_of_the_rig_may_be_given_one_by_one(tmp_path: Path) -> None:
    given = options_of(small_session(), tmp_path)
    without = run(*given, "--out", "a.h5", cwd=tmp_path)
    assert without.returncode == 1
    assert "--screen-width-cm" in without.stderr
    values = [
        "--screen-width-cm",
        36.4,
        "--screen-height-cm",
        24.3,
        "--screen-distance-cm",
        18,
        "--um-per-pixel",
        1.3,
    ]
    done = run(*given, *values, "--background-gray", 113, "--out", "a.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = run(*given, *values, "--out", "a.h5", cwd=tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
