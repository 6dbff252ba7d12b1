"""What a device computes is what the processor computes; skipped where there is no device."""

from __future__ import annotations

import numpy as np
import pytest

import mousev1
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.mei import optimal_images
from mousev1.numerics.devices import available_devices
from small import simulate

DEVICES = [name for name in available_devices() if name in ("cuda", "mps")]

pytestmark = pytest.mark.skipif(
    not DEVICES, reason="this machine has no CUDA or MPS device that torch can use"
)


@pytest.fixture(scope="module", params=DEVICES or ["none"])
def device(request):
    return request.param


@pytest.fixture(scope="module")
def simulated():
    return simulate(train=300)


@pytest.fixture(scope="module")
def fitted(simulated):
    return mousev1.fit_scan(simulated.scan, core=simulated.core, progress=False)


def close(found, expected, tolerance=1e-4):
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_a_fit_on_the_device_is_that_on_the_processor(simulated, fitted, device):
    images = simulated.scan.images[-30:]
    model = mousev1.fit_scan(simulated.scan, core=simulated.core, device=device, progress=False)
    assert model.device.type == device
    # half-precision features may round to either side
    assert close(model.predict(images), fitted.predict(images), tolerance=2e-3)


def test_predictions_and_their_deviations_are_those_of_the_processor(simulated, fitted, device):
    images = simulated.scan.images[-30:]
    expected = fitted.predict(images, return_std=True)
    found = fitted.to(device).predict(images, return_std=True)
    fitted.to("cpu")
    assert all(close(a, b) for a, b in zip(found, expected, strict=True))


def test_the_recipe_trains_on_the_device(simulated, device):
    settings = mousev1.SGDSettings(max_epochs=3)
    model = mousev1.fit_scan(
        simulated.scan, core=simulated.core, method="sgd", settings=settings, device=device, progress=False
    )
    assert model.device.type == device
    assert np.isfinite(model.predict(simulated.scan.images[-5:])).all()


def test_most_exciting_images_excite_as_much(fitted, device):
    settings = AscentSettings(steps=10, seeds=2)
    expected = optimal_images(fitted, settings=settings).response
    found = optimal_images(fitted.to(device), settings=settings).response
    fitted.to("cpu")
    assert np.allclose(found, expected, rtol=2e-2)
