"""Representations by the names that config files give them."""

from __future__ import annotations

import pytest
import torch

from mousev1.core.network import Core
from mousev1.storage.core_files import save_core
from small import CONFIG
from training.networks.representations import REPRESENTATIONS, load_representation


@pytest.mark.parametrize(("name", "channels"), [("random-64", 64), ("random-128", 128)])
def test_random_cores_have_the_published_shape_and_their_seed(name, channels):
    core = load_representation(name, seed=3)
    assert core.config.feature_shape(36, 64) == (channels, 22, 50)
    assert core.content_hash() == load_representation(name, seed=3).content_hash()
    assert core.content_hash() != load_representation(name, seed=4).content_hash()


@pytest.mark.parametrize("name", sorted(set(REPRESENTATIONS) - {"vgg16-imagenet"}))
def test_every_name_gives_something_frozen_with_features_of_its_shape(name):
    found = load_representation(name)
    assert found.frozen
    images = torch.randint(0, 256, (1, found.config.input_channels, 36, 64)).float()
    assert tuple(found(images).shape[1:]) == found.config.feature_shape(36, 64)
    assert found.config.hidden_channels == found.config.feature_shape(36, 64)[0]


def test_folders_and_names_are_those_of_load_core(tmp_path):
    core = Core.random(CONFIG, seed=0)
    folder = save_core(core, tmp_path / "core")
    assert load_representation(str(folder)).content_hash() == core.content_hash()
    assert load_representation("sim-11S").name == "sim-11S"


def test_published_checkpoints_come_with_their_contract(shared):
    single = load_representation(str(shared("weights/bashiri_1s_core.safetensors")))
    assert (single.config.input.mean, single.config.input.std) == (113.0, 60.0)
    assert load_representation(str(shared("weights/lurz_11s_core.pt"))).name == "11-S"
    whole = load_representation(str(shared("weights/sensorium_sota_model.pth")))
    assert whole.config.hidden_channels == 64


def test_an_unknown_name_says_what_is_known():
    with pytest.raises(FileNotFoundError, match=r"got 'vgg19'; or, for a comparison, one of 'random-64'"):
        load_representation("vgg19")
