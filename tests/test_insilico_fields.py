"""Receptive fields against known Gabors and Gaussians, and derivatives against automatic ones."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from gabor_cells import gabor_cells
from mousev1.core.network import InputContract
from mousev1.insilico import Frame, gabors, least_squares, readout_position, receptive_fields
from mousev1.insilico.field_fits import fit_gabors, fit_gaussians

FRAME = Frame.of(InputContract(), background=118.0)


def natural_like(count: int, height: int, width: int) -> np.ndarray:
    """1/f noise, strong enough that both signs of every filter are driven."""
    rng = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij"))
    noise = np.fft.irfft2(
        np.fft.rfft2(rng.normal(size=(count, height, width))) / (0.05 + radius), s=(height, width)
    )
    return np.clip(118 + 45 * noise / noise.std(), 0, 255).astype(np.float32)


@pytest.mark.parametrize(
    ("curve", "parameters"),
    [
        (least_squares.gaussian, [1.0, -2.0, 0.4, 0.7, 0.2, 1.5, 0.3]),
        (least_squares.gabor, [1.0, -2.0, 0.4, 0.7, 0.2, -1.5, 1.2, -0.7]),
    ],
)
def test_derivatives_are_those_of_automatic_differentiation(curve, parameters):
    p = torch.tensor([parameters], dtype=torch.float64)
    x, y = torch.linspace(-3, 3, 7, dtype=torch.float64), torch.linspace(-2, 4, 7, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda q: curve(q, x, y)[0][0], p)[:, 0]
    torch.testing.assert_close(curve(p, x, y)[1][0], expected)


def test_known_gaussians_are_found_again():
    rng = np.random.default_rng(1)
    x, y = FRAME.grid_deg()
    spans = ((-25, 25), (-15, 15), (0, 180), (6, 9), (3, 5))
    truth = np.column_stack([rng.uniform(*span, 30) for span in spans])
    maps = []
    for x0, y0, angle, major, minor in truth:
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        u, v = (x - x0) * cos + (y - y0) * sin, (x - x0) * sin - (y - y0) * cos
        maps.append(0.2 + 3.0 * np.exp(-0.5 * ((u / major) ** 2 + (v / minor) ** 2)))
    fit = fit_gaussians(np.stack(maps), FRAME)
    np.testing.assert_allclose(fit.r2, 1.0, atol=1e-6)
    found = np.column_stack([fit.x_deg, fit.y_deg, fit.long_deg, fit.short_deg])
    np.testing.assert_allclose(found, truth[:, [0, 1, 3, 4]], atol=1e-3)
    np.testing.assert_allclose((fit.orientation_deg - truth[:, 2] + 90) % 180, 90.0, atol=1e-2)


def test_known_gabors_are_found_again_with_noise_on_top():
    rng = np.random.default_rng(2)
    truth = {
        "orientation_deg": rng.uniform(0, 180, 30),
        "frequency_cpd": rng.uniform(0.03, 0.1, 30),
        "phase_deg": rng.uniform(-180, 180, 30),
        "x_deg": rng.uniform(-25, 25, 30),
        "y_deg": rng.uniform(-12, 12, 30),
        "length_deg": rng.uniform(7, 10, 30),
        "breadth_deg": rng.uniform(6, 8, 30),
    }
    maps = gabors(FRAME, contrast=0.8, **truth).astype(np.float64) - 118.0
    maps += rng.normal(0, 1.0, maps.shape)
    fit = fit_gabors(maps, FRAME)
    assert fit.r2.min() > 0.97
    np.testing.assert_allclose(fit.frequency_cpd, truth["frequency_cpd"], rtol=0.03)
    np.testing.assert_allclose((fit.orientation_deg - truth["orientation_deg"] + 90) % 180, 90.0, atol=2.0)
    np.testing.assert_allclose((fit.phase_deg - truth["phase_deg"] + 180) % 360, 180.0, atol=12.0)
    for name in ("x_deg", "y_deg"):
        np.testing.assert_allclose(getattr(fit, name), truth[name], atol=0.5)
    for name in ("length_deg", "breadth_deg"):
        np.testing.assert_allclose(getattr(fit, name), truth[name], rtol=0.1)
    np.testing.assert_allclose(fit.amplitude, 0.8 * 118, rtol=0.1)


def test_a_map_without_anything_has_no_fit():
    maps = np.zeros((2, 36, 64))
    maps[1, 10:14, 20:24] = 1.0
    for fit in (fit_gaussians(maps, FRAME), fit_gabors(maps, FRAME)):
        assert np.isnan(fit.x_deg[0])
        assert np.isnan(fit.r2[0])
        assert np.isfinite(fit.x_deg[1])


def test_readouts_look_where_their_kernel_is_centred():
    truth = gabor_cells()
    frame = Frame.of(truth.model.core)
    x, y = readout_position(truth.model, frame)
    np.testing.assert_allclose(np.column_stack(frame.to_pixels(x, y)), truth.xy_px, atol=1e-5)
    # the middle of the map is the middle of the frame
    assert (x[0], y[0]) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))


@pytest.fixture(scope="module")
def fields():
    truth = gabor_cells()
    return truth, receptive_fields(truth.model, natural_like(24, 36, 40))


def test_fields_are_where_and_what_the_filters_are(fields):
    truth, found = fields
    x, y = found.frame.to_degrees(*truth.xy_px.T)
    for fit in (found.gaussian, found.gabor):
        np.testing.assert_allclose(fit.x_deg, x, atol=0.9)
        np.testing.assert_allclose(fit.y_deg, y, atol=0.9)
    assert found.gabor.r2.min() > 0.95
    np.testing.assert_allclose((found.gabor.orientation_deg - truth.orientation_deg + 90) % 180, 90, atol=3)
    np.testing.assert_allclose(found.gabor.frequency_cpd, truth.frequency_cpd, rtol=0.15)
    simple = slice(0, 4)
    np.testing.assert_allclose((found.gabor.phase_deg - truth.phase_deg + 180)[simple] % 360, 180, atol=30)
    assert found.offset_deg.max() < 1.0


def test_the_mean_gradient_of_a_simple_cell_is_its_filter_and_that_of_a_complex_cell_cancels(fields):
    truth, found = fields
    # at mu = (0, 0) the unit reads between two pixels along both axes
    spread = sum(np.pad(truth.filters[0], ((dy, 1 - dy), (dx, 1 - dx))) for dy in (0, 1) for dx in (0, 1))
    here = found.mean[0][10:26, 12:28]
    assert np.corrcoef(here.ravel(), spread.ravel())[0, 1] > 0.999
    assert found.linearity[:4].min() > 0.6
    assert found.linearity[4] < 0.4


def test_gradients_are_those_of_the_whole_model(fields):
    truth, found = fields
    images = torch.from_numpy(natural_like(24, 36, 40))[:, None].requires_grad_()
    for unit in (1, 4):
        (gradient,) = torch.autograd.grad(truth.model(images)[:, unit].sum(), images)
        np.testing.assert_allclose(found.mean[unit], gradient.mean(dim=0)[0], atol=1e-6)
        energy = gradient.square().mean(dim=0)[0].sqrt()
        np.testing.assert_allclose(found.energy[unit], energy, atol=1e-6)


def test_fields_become_rows_and_csv(fields, tmp_path):
    _, found = fields
    found.to_csv(tmp_path / "fields.csv")
    with open(tmp_path / "fields.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["unit_id"]) for row in rows] == [100, 101, 102, 103, 104]
    for row, written in zip(found.to_rows(), rows, strict=True):
        assert {name: float(text) for name, text in written.items()} == row


def test_bad_requests_are_refused():
    model = gabor_cells().model
    images = natural_like(2, 36, 40)
    with pytest.raises(ValueError, match=r"units: expected indices from 0 to 4, .* got 5"):
        receptive_fields(model, images, units=[0, 5])
    with pytest.raises(ValueError, match="units: expected a list of whole numbers"):
        receptive_fields(model, images, units=np.array([True, False]))
    with pytest.raises(ValueError, match="expected 36 x 64 as the frame"):
        receptive_fields(model, images, frame=FRAME)
