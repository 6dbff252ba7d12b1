"""The Gaussian readout against the paper's counts, torch's own sampler and hand-made examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    PositionNetworkConfig,
    SharedFeatureWeights,
    normalise_cortex,
    rate_from_drive,
)
from mousev1.readout.interpolation import bilinear_corners, region_around, sample_at, weigh_at

U, C, H, W, N = 7, 8, 9, 12, 5


def make(kind: str) -> GaussianReadout:
    torch.manual_seed(0)
    cortex = torch.rand(U, 2) * 2 - 1
    positions = {
        "free": lambda: FreePositions(U),
        "cortex": lambda: CortexPositions(cortex, PositionNetwork()),
        "hidden": lambda: CortexPositions(
            cortex,
            PositionNetwork(PositionNetworkConfig(hidden_layers=1, hidden_features=5, final_tanh=True)),
        ),
        "shared": lambda: CortexPositions(cortex, PositionNetwork()),
    }[kind]()
    if kind == "shared":
        index = torch.tensor([0, 1, 2, 3, 3, 1, 0])
        return GaussianReadout(positions, SharedFeatureWeights(FeatureWeights(4, C), index))
    return GaussianReadout(positions, FeatureWeights(U, C))


KINDS = ["free", "cortex", "hidden", "shared"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_readout_keeps_the_contract(kind):
    readout = make(kind)
    features = torch.randn(N, C, H, W, requires_grad=True)
    before = {k: v.clone() for k, v in readout.state_dict().items()}
    readout.train()
    rates = readout(features)
    assert rates.shape == (N, U)
    assert (rates > 0).all()
    rates.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in readout.parameters())
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    assert all(torch.equal(before[k], v) for k, v in readout.state_dict().items()), (
        "forward moved a parameter"
    )

    readout.eval()
    again = make(kind)
    again.load_state_dict(readout.state_dict())
    again.eval()
    assert torch.equal(readout(features), again(features))
    assert f"units={U}" in repr(readout)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_reads_out_at_the_mean_as_grid_sample_does(kind):
    readout = make(kind).eval()
    features = torch.randn(N, C, H, W)
    grid = readout.mu()[None, :, None].expand(N, U, 1, 2)
    sampled = F.grid_sample(features, grid, align_corners=True)[..., 0]
    expected = F.elu(torch.einsum("ncu,uc->nu", sampled, readout.weights()) + readout.bias) + 1
    torch.testing.assert_close(readout(features), expected, atol=1e-5, rtol=0)


def test_training_draws_one_position_per_neuron_and_image_with_the_promised_covariance():
    readout = make("free")
    with torch.no_grad():
        readout.sigma.copy_(torch.tensor([[0.05, 0.02], [-0.01, 0.03]]).expand(U, 2, 2))
        readout.positions.mu.uniform_(-0.3, 0.3)
    drawn = readout.sample_positions(40_000, generator=torch.Generator().manual_seed(1)).detach()
    offsets = drawn - readout.mu().detach()
    covariance = torch.einsum("nui,nuj->uij", offsets, offsets) / len(offsets)
    # sigma sigma^T by hand: .05^2 + .02^2, -.05*.01 + .02*.03, .01^2 + .03^2
    expected = torch.tensor([[0.0029, 0.0001], [0.0001, 0.0010]])
    torch.testing.assert_close(covariance, expected.expand(U, 2, 2), atol=6e-5, rtol=0)
    assert not torch.equal(drawn[0], drawn[1])


def test_training_is_reproducible_from_a_generator():
    readout, features = make("cortex").train(), torch.randn(N, C, H, W)
    a, b, c = (readout(features, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_parameter_counts_are_the_papers():
    # paper: c + 7 with free positions (c weights, bias, 2 for mu, 4 for sigma); c + 5 with cortex
    assert make("free").n_parameters() == U * (C + 7)
    assert make("free").n_parameters_per_unit() == C + 7
    network = 2 * 2 + 2
    assert make("cortex").n_parameters() == U * (C + 5) + network
    assert make("cortex").n_parameters_per_unit() == C + 5
    # shared: a bank of 4 x C, and per unit a scale, a bias and 4 for sigma
    assert make("shared").n_parameters() == 4 * C + U * 6 + network


def test_shared_features_are_the_bank_times_a_scale_per_unit():
    bank = FeatureWeights(2, 3)
    with torch.no_grad():
        bank.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    shared = SharedFeatureWeights(bank, torch.tensor([1, 0, 1]))
    with torch.no_grad():
        shared.scale.copy_(torch.tensor([1.0, 2.0, 10.0]))
    assert shared().tolist() == [[4, 5, 6], [2, 4, 6], [40, 50, 60]]


def test_two_scans_share_one_bank_and_its_gradient():
    bank = FeatureWeights(3, C)
    index = torch.arange(3)
    scans = [GaussianReadout(FreePositions(3), SharedFeatureWeights(bank, index)) for _ in range(2)]
    for scan in scans:
        scan.train()(torch.randn(N, C, H, W)).sum().backward()
    assert scans[0].weights.bank.weight is scans[1].weights.bank.weight
    assert bank.weight.grad is not None


def test_affine_network_starts_orthonormal_times_its_scale():
    torch.manual_seed(3)
    weight = PositionNetwork(PositionNetworkConfig(init_scale=0.2)).layers[0].weight.detach()
    torch.testing.assert_close(weight @ weight.T, 0.04 * torch.eye(2))


def test_cortex_is_centred_and_scaled_as_the_authors_do():
    # by hand: mean (3, 10), largest absolute deviation 20 in y
    positions = torch.tensor([[1.0, 30.0, 5.0], [5.0, -10.0, 9.0]])
    torch.testing.assert_close(normalise_cortex(positions), torch.tensor([[-0.1, 1.0], [0.1, -1.0]]))


def test_a_single_neuron_sits_at_the_origin():
    assert normalise_cortex(torch.tensor([[500.0, -3.0]])).tolist() == [[0.0, 0.0]]


def test_bilinear_corners_by_hand():
    # x = 0.5 on a map 5 wide is pixel 3.0; y = -0.5 on a map 3 high is pixel 0.5
    index, weight = bilinear_corners(torch.tensor([[0.5, -0.5]]), 3, 5)
    dense = torch.zeros(15).index_add(0, index[0], weight[0]).reshape(3, 5)
    assert dense[0, 3] == pytest.approx(0.5)
    assert dense[1, 3] == pytest.approx(0.5)
    assert dense.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("spread", [0.1, 1.3])
def test_reading_a_region_is_reading_the_map(spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, C, 18, 30, generator=generator)
    mu = (torch.rand(20, 2, generator=generator) * 2 - 1) * spread + torch.tensor([0.3, -0.2])
    region, local = region_around(mu, 18, 30)
    corners = {(int(i) // 30, int(i) % 30) for i in bilinear_corners(mu, 18, 30)[0].unique()}
    assert (region.top, region.left) == tuple(min(part) for part in zip(*corners, strict=True))
    assert (region.bottom - 1, region.right - 1) == tuple(max(part) for part in zip(*corners, strict=True))
    torch.testing.assert_close(
        sample_at(region.of(features), local), sample_at(features, mu), rtol=1e-5, atol=1e-5
    )


def test_a_map_of_one_pixel_is_its_own_region() -> None:
    region, local = region_around(torch.tensor([[0.4, -0.9]]), 1, 1)
    assert (region.height, region.width) == (1, 1)
    assert torch.equal(sample_at(torch.full((2, C, 1, 1), 7.0), local), torch.full((1, 2, C), 7.0))


def test_weighing_is_sampling_and_then_the_dot_product_with_gradients_alike():
    features = torch.randn(N, C, H, W, dtype=torch.float64, requires_grad=True)
    mu = (torch.rand(30, 2, dtype=torch.float64) * 2.2 - 1.1).requires_grad_()
    weights = torch.randn(30, C, dtype=torch.float64, requires_grad=True)
    expected = torch.einsum("unc,uc->nu", sample_at(features, mu.detach()), weights)
    torch.testing.assert_close(weigh_at(features, mu, weights), expected)
    assert torch.autograd.gradcheck(
        lambda f, m, w: weigh_at(f, m, w), (features, mu, weights), fast_mode=True
    )


@pytest.mark.parametrize(("height", "width"), [(H, W), (1, W), (H, 1), (1, 1), (2, 2)])
def test_sampling_agrees_with_grid_sample_everywhere(height, width):
    features = torch.randn(N, C, height, width)
    mu = torch.cat([torch.rand(40, 2) * 2.4 - 1.2, torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.0]])])
    grid = mu.clamp(-1, 1)[None, :, None].expand(N, len(mu), 1, 2)
    expected = F.grid_sample(features, grid, align_corners=True)[..., 0].permute(2, 0, 1)
    torch.testing.assert_close(sample_at(features, mu), expected, atol=1e-5, rtol=0)


def test_rate_is_exponential_below_zero_and_linear_above():
    assert rate_from_drive(torch.tensor([-2.0, 0.0, 3.0])).tolist() == pytest.approx([math.exp(-2), 1.0, 4.0])


def test_projection_moves_free_positions_back_onto_the_map():
    readout = make("free")
    with torch.no_grad():
        readout.positions.mu[0] = torch.tensor([3.0, -2.0])
    readout.project_()
    assert readout.positions.mu[0].tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: GaussianReadout(FreePositions(3), FeatureWeights(4, C)), "expected 4 neurons"),
        (lambda: CortexPositions(torch.zeros(3, 3), PositionNetwork()), r"expected \(U, 2\)"),
        (
            lambda: SharedFeatureWeights(FeatureWeights(2, C), torch.tensor([0, 2])),
            "values from 0 to 1",
        ),
        (lambda: SharedFeatureWeights(FeatureWeights(2, C), torch.tensor([0.0])), "whole numbers"),
        (lambda: PositionNetworkConfig(hidden_layers=-1), "hidden_layers"),
        (lambda: make("free")(torch.zeros(2, C + 1, H, W)), "only the core that it was made for"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()
