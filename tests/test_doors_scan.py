"""What recordings have and a scan must not: each message's own remedy is followed to a scan."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import mousev1
from mousev1.data.scan import Scan
from small import CONFIG

IMAGES, UNITS = 30, 4
RNG = np.random.default_rng(0)
RATES = RNG.gamma(1.0, size=(IMAGES + 9, UNITS)).astype(np.float32)


def scan_of(**changes: Any) -> Scan:
    """Thirty images of training, three test images with three repeats."""
    values: dict[str, Any] = {
        "name": "door",
        "images": np.random.default_rng(1).integers(0, 256, (IMAGES + 3, 1, 16, 24), dtype=np.uint8),
        "image_ids": np.arange(IMAGES + 3),
        "trial_image": np.r_[np.arange(IMAGES), np.repeat(np.arange(IMAGES, IMAGES + 3), 3)],
        "tiers": ["train"] * IMAGES + ["test"] * 9,
        "responses": RATES,
        "unit_ids": np.arange(UNITS) + 10,
        "positions": np.random.default_rng(2).uniform(0, 500, (UNITS, 3)),
        "covariates": {"running": np.arange(IMAGES + 9.0)},
    }
    return Scan(**values | changes)


def written(path: Path, **changes: np.ndarray) -> Path:
    """A scan file with some of its datasets changed afterwards, as another program would write them."""
    scan_of().write(path)
    with h5py.File(path, "r+") as file:
        for name, values in changes.items():
            del file[name.replace("__", "/")]
            if values is not None:
                file[name.replace("__", "/")] = values
    return path


def test_rounding_below_zero_is_read_and_fitted_with_one_note(tmp_path, caplog):
    # oracle: the responses before; 0.2 % of them are -5e-8, as deconvolution leaves them
    rounded = RATES.copy()
    rounded.ravel()[::500] = -5e-8
    path = written(tmp_path / "scan.h5", responses=rounded)
    with caplog.at_level(logging.WARNING, "mousev1"):
        scan = mousev1.read_scan(path)
        core = mousev1.Core.random(CONFIG, seed=0)
        model = mousev1.fit_scan(scan, core=core, progress=False)
    notes = [record.getMessage() for record in caplog.records if "negative" in record.getMessage()]
    assert len(notes) == 1
    assert "1 of 156 responses were negative (down to -5e-08) and are 0 now: rounding" in notes[0]
    np.testing.assert_array_equal(scan.responses, np.maximum(rounded, 0))
    assert model.n_units == UNITS
    # the same from own arrays
    np.testing.assert_array_equal(scan_of(responses=rounded).responses, np.maximum(rounded, 0))


def test_negative_responses_are_refused_until_they_are_clipped(tmp_path, caplog):
    noisy = RATES - 0.2
    path = written(tmp_path / "scan.h5", responses=noisy)
    with pytest.raises(ValueError, match=r"negative values.*pass negatives='clip'"):
        mousev1.read_scan(path)
    with caplog.at_level(logging.WARNING, "mousev1"):
        scan = mousev1.read_scan(path, negatives="clip")
    np.testing.assert_array_equal(scan.responses, np.clip(noisy, 0, None))
    assert f"{(noisy < 0).sum()} of 156 responses were negative" in caplog.text
    with pytest.raises(ValueError, match=r"negative values.*np.clip\(responses, 0, None\)"):
        scan_of(responses=noisy)
    with pytest.raises(ValueError, match="negatives: expected one of 'error', 'clip'"):
        mousev1.read_scan(path, negatives="abs")


@pytest.mark.parametrize(("drop", "neurons", "trials"), [("neurons", 2, 39), ("trials", 4, 37)])
def test_missing_responses_are_refused_until_their_neurons_or_trials_are_dropped(
    drop, neurons, trials, tmp_path, caplog
):
    holes = RATES.copy()
    holes[3, 1], holes[36, 2] = np.nan, np.inf
    path = written(tmp_path / "scan.h5", responses=holes)
    with pytest.raises(ValueError, match="pass drop='trials' or drop='neurons'"):
        mousev1.read_scan(path)
    with caplog.at_level(logging.WARNING, "mousev1"):
        scan = mousev1.read_scan(path, drop=drop)
    assert (scan.n_units, scan.n_trials) == (neurons, trials)
    assert f"left out 2 of {UNITS if drop == 'neurons' else 39} {drop}" in caplog.text
    kept = [t for t in range(39) if drop == "neurons" or t not in (3, 36)]
    units = [0, 3] if drop == "neurons" else [0, 1, 2, 3]
    np.testing.assert_array_equal(scan.responses, holes[np.ix_(kept, units)])
    assert scan.covariates["running"].tolist() == kept
    assert scan.unit_ids.tolist() == [10 + unit for unit in units]
    # every trial still shows its picture
    np.testing.assert_array_equal(
        scan.images[scan.trial_image], scan_of().images[scan_of().trial_image[kept]]
    )


def test_neurons_without_a_position_are_dropped_on_request_and_trials_do_not_help(tmp_path):
    positions = scan_of().positions.copy()
    positions[2] = np.nan
    path = written(tmp_path / "scan.h5", neurons__positions=positions)
    with pytest.raises(ValueError, match=r"positions: .*1 of 4 neurons.*drop='neurons'"):
        mousev1.read_scan(path)
    assert mousev1.read_scan(path, drop="neurons").unit_ids.tolist() == [10, 11, 13]
    hopeless = np.full_like(RATES, np.nan)
    path = written(tmp_path / "none.h5", responses=hopeless)
    with pytest.raises(ValueError, match="drop: all 39 trials have a value that is not finite"):
        mousev1.read_scan(path, drop="trials")


@pytest.mark.parametrize(
    "name", ["images", "responses", "positions", "unit_ids", "image_ids", "trial_image", "covariates"]
)
def test_a_mask_is_never_dropped_in_silence(name):
    # oracle: the true values under a mask that hides nothing, and a hidden 9999
    values = getattr(scan_of(), name)
    if name == "covariates":
        hide = {"running": np.ma.masked_array(values["running"], mask=[True] + [False] * 38)}
        plain = {"running": np.ma.masked_array(values["running"], mask=False)}
    else:
        mask = np.zeros(values.shape, dtype=bool)
        plain = np.ma.masked_array(values, mask=mask)
        mask = mask.copy()
        mask.flat[0] = True
        hide = np.ma.masked_array(values, mask=mask)
    assert scan_of(**{name: plain}) == scan_of()
    with pytest.raises(
        ValueError, match=r"got a masked array with 1 of [\d,]+ values masked.*filled\(np.nan\)"
    ):
        scan_of(**{name: hide})


def test_a_masked_response_is_dropped_by_the_remedy_of_its_message(tmp_path):
    masked = np.ma.masked_greater(np.where(RATES[5, 2] == RATES, 9999, RATES), 9000)
    path = written(tmp_path / "scan.h5", responses=masked.filled(np.nan))
    assert mousev1.read_scan(path, drop="trials").n_trials == 38


def test_names_of_neurons_are_kept_and_missing_ones_numbered(tmp_path, caplog):
    names = np.array([b"plane0-3", b"plane0-7", b"plane1-0", b"plane1-1"], dtype="S8")
    with caplog.at_level(logging.WARNING, "mousev1"):
        scan = mousev1.read_scan(written(tmp_path / "named.h5", neurons__unit_ids=names))
        numbers = mousev1.read_scan(
            written(tmp_path / "text.h5", neurons__unit_ids=np.array([b"7", b"30", b"4", b"1"]))
        )
        missing = mousev1.read_scan(written(tmp_path / "none.h5", neurons__unit_ids=None))
    assert scan.unit_ids.tolist() == missing.unit_ids.tolist() == [0, 1, 2, 3]
    assert scan.neuron_meta["unit_name"].tolist() == [name.decode() for name in names]
    assert numbers.unit_ids.tolist() == [7, 30, 4, 1]
    assert "named.h5: unit ids are names" in caplog.text
    assert "none.h5: no unit ids, so the 4 neurons are numbered from 0" in caplog.text
    assert mousev1.read_scan(scan.write(tmp_path / "again.zip")) == scan


def test_tiers_of_an_hdf5_file_are_translated_as_those_of_a_tree(tmp_path):
    # oracle: the scan without those trials
    names = np.array([b"train"] * IMAGES + [b"final_test"] * 9)
    path = written(tmp_path / "scan.h5", trials__tier=names)
    with pytest.raises(
        ValueError, match=r"got also 'final_test' \(9 trials\); pass tiers=\{'final_test': None\}"
    ):
        mousev1.read_scan(path)
    assert mousev1.read_scan(path, tiers={"final_test": "test"}) == scan_of()
    without = mousev1.read_scan(path, tiers={"final_test": None})
    assert without.tier_sizes == {"train": IMAGES}
    assert without.n_images == IMAGES
    with pytest.raises(ValueError, match=r"tiers: .*'live'.* not in this scan"):
        mousev1.read_scan(path, tiers={"live": None})


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    scan_of().write("~/scan.h5")
    assert (tmp_path / "scan.h5").is_file()
    assert mousev1.read_scan("~/scan.h5") == scan_of()


def test_arrays_with_their_axes_in_another_order_are_named_and_mended():
    # oracle: the scan of the arrays as they were
    images, responses = scan_of().images[:, 0], scan_of().responses
    last, flat = np.moveaxis(images, 0, -1), images.reshape(len(images), -1)
    with pytest.raises(ValueError, match=r"looks like \(H, W, N\); pass np.moveaxis\(images, -1, 0\)"):
        scan_of(images=last)
    assert scan_of(images=np.moveaxis(last, -1, 0)) == scan_of()
    with pytest.raises(
        ValueError, match=r"one row of pixels each; pass images.reshape\(len\(images\), H, W\)"
    ):
        scan_of(images=flat)
    assert scan_of(images=flat.reshape(len(flat), 16, 24)) == scan_of()
    with pytest.raises(
        ValueError, match=r"responses: expected \(T, U\) with T = 39, got \(4, 39\); pass responses.T"
    ):
        scan_of(responses=responses.T)


def test_without_a_home_folder_paths_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("no such user")))
    path = scan_of().write(tmp_path / "scan.h5")
    assert mousev1.read_scan(path) == scan_of()
    with pytest.raises(FileNotFoundError, match=r"~/scan\.h5"):
        mousev1.read_scan("~/scan.h5")
