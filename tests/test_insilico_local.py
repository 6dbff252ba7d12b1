"""A unit's own patch against the whole model, whose features are computed everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mousev1.core.network import Core, CoreConfig
from mousev1.insilico import LocalView
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from small import simulate

SIZES = [
    # the window is smaller than the map along both axes, along one, along none
    (CoreConfig(hidden_channels=5, layers=3, input_kernel=5, hidden_kernel=3), 20, 24),
    (CoreConfig(hidden_channels=5, layers=4, input_kernel=5, hidden_kernel=5), 16, 40),
    (CoreConfig(hidden_channels=5, layers=4, input_kernel=7, hidden_kernel=7), 15, 18),
    (CoreConfig(hidden_channels=5, layers=1, input_kernel=5), 12, 14),
    # maps of one row, or of one feature
    (CoreConfig(hidden_channels=5, layers=2, input_kernel=5, hidden_kernel=3), 5, 14),
    (CoreConfig(hidden_channels=5, layers=2, input_kernel=5, hidden_kernel=3), 5, 5),
]


def model_with_units_everywhere(config: CoreConfig) -> ResponseModel:
    core = Core.random(config, seed=1)
    generator = torch.Generator().manual_seed(0)
    for layer in core.layers:
        layer.norm.running_mean.normal_(0, 0.1, generator=generator)
        layer.norm.running_var.uniform_(0.5, 2.0, generator=generator)
    readout = GaussianReadout(FreePositions(40), FeatureWeights(40, 5))
    with torch.no_grad():
        readout.positions.mu.uniform_(-1, 1, generator=generator)
        # corners and edges of the map
        readout.positions.mu[:4] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [0.3, -1.0]])
        readout.weights.weight.normal_(generator=generator)
        readout.bias.normal_(generator=generator)
    return ResponseModel(
        core, readout, unit_ids=np.arange(40), response_scale=np.ones(40), record=FitRecord("by hand")
    )


@pytest.mark.parametrize(("config", "height", "width"), SIZES)
def test_drive_and_gradient_of_own_patches_are_those_of_the_whole_model(config, height, width):
    model = model_with_units_everywhere(config)
    view = LocalView(model, height=height, width=width)
    units = torch.arange(40)
    images = torch.rand(40, 1, height, width, generator=torch.Generator().manual_seed(2)) * 255

    whole = images.clone().requires_grad_()
    expected = model.readout.drive(model.core(whole))[units, units]
    expected.sum().backward()

    local = images.clone().requires_grad_()
    drive = view.drive(view.cut(local, units), units)
    drive.sum().backward()
    torch.testing.assert_close(drive, expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))
    largest = float(whole.grad.abs().max())
    torch.testing.assert_close(local.grad, whole.grad, rtol=1e-4, atol=1e-5 * largest)


def test_patches_of_one_shared_image_add_up_their_gradients():
    model = model_with_units_everywhere(SIZES[0][0])
    view = LocalView(model, height=20, width=24)
    units = torch.tensor([3, 8, 8])
    image = (torch.rand(1, 1, 20, 24, generator=torch.Generator().manual_seed(2)) * 255).requires_grad_()
    (shared,) = torch.autograd.grad(view.drive(view.cut(image, units), units).sum(), image)
    (whole,) = torch.autograd.grad(model.readout.drive(model.core(image))[0, units].sum(), image)
    torch.testing.assert_close(shared, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_a_patch_put_back_is_where_it_was_cut():
    model = model_with_units_everywhere(SIZES[0][0])
    view = LocalView(model, height=20, width=24)
    images = torch.rand(40, 1, 20, 24)
    units = torch.arange(40)
    torch.testing.assert_close(view.put(view.cut(images, units), units, images), images)
    blank = view.put(view.cut(images, units), units, torch.zeros(1, 20, 24))
    assert ((blank == images) | (blank == 0)).all()
    assert (blank != 0).sum() == 40 * view.patch_height * view.patch_width


def test_the_patch_of_the_published_size_is_52_pixels_wide():
    made = simulate(units=3, train=2, validation=2, test=2, repeats=1)
    core = Core.random(seed=0)
    readout = GaussianReadout(FreePositions(3), FeatureWeights(3, 64))
    model = ResponseModel(
        core, readout, unit_ids=[1, 2, 3], response_scale=made.scale[:3], record=FitRecord("by hand")
    )
    view = LocalView(model, height=36, width=64)
    assert (view.patch_height, view.patch_width) == (36, 52)
