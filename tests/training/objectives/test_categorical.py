"""The objective with categorical latents: its noise, its loss, and runs with it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import SMALL, run_facts, stop_at, weights_of

from models.config import ConfigError, NetworkConfig
from models.files import load_model
from models.networks import VAE
from models.posteriors import Categorical as Posterior
from training.config import TrainingConfig, check_initial_network, over_inherited, settings_of_model
from training.data.packs import Pack
from training.loop import train
from training.objectives.base import StepLosses
from training.objectives.categorical import Categorical, gumbel
from training.objectives.factorvae import FactorPenalty, total_correlation
from training.objectives.schedules import cosine_ramp
from training.parts import Parts
from training.presets import resolve


def losses_of(logits: torch.Tensor) -> StepLosses:
    posterior = Posterior(logits)
    kls = posterior.kl().mean(0)
    noise = torch.zeros(logits.shape)
    return StepLosses(
        step=0, reconstruction=torch.zeros(()), posterior=posterior, noise=noise, kl_per_dimension=kls, kl=kls.sum()
    )


def test_the_noise_is_gumbels() -> None:
    noise = gumbel(np.random.default_rng(0), (200_000,))
    assert noise.dtype == np.float32
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_the_scale_of_the_noise_follows_a_cosine_over_the_run() -> None:
    assert [cosine_ramp(step, 0.5, 2.0, 100) for step in (0, 50, 100, 200)] == pytest.approx([0.5, 1.25, 2.0, 2.0])
    assert cosine_ramp(25, 0.5, 2.0, 100) == pytest.approx(0.5 + 1.5 * (1 - math.cos(math.pi / 4)) / 2)
    assert cosine_ramp(0, 0.5, 2.0, 0) == 2.0
    objective = Categorical().in_steps(100, 10)
    assert objective.noise_steps == 100
    assert Categorical(noise_steps=7).in_steps(100, 10).noise_steps == 7
    plain = gumbel(np.random.default_rng(3), (5, 4, 8))
    for step, scale in ((0, 0.5), (50, 1.25), (100, 2.0)):
        drawn = objective.draw_noise(step)(np.random.default_rng(3), (5, 4, 8))
        assert drawn.dtype == np.float32
        np.testing.assert_allclose(drawn, scale * plain, rtol=1e-6)


def test_the_loss_is_the_kl_and_the_total_correlation_only_with_a_gamma() -> None:
    losses = losses_of(torch.randn(8, 4, 16, generator=torch.Generator().manual_seed(0)))
    plain = Categorical().begin(run_facts(4))
    assert plain.loss(losses) is losses.kl
    assert plain.networks() == {}
    penalty = Categorical(gamma=3.0, discriminator_width=16).begin(run_facts(4))
    assert isinstance(penalty, FactorPenalty)
    correlation = total_correlation(penalty.discriminator, losses.posterior.mean)
    torch.testing.assert_close(penalty.loss(losses), losses.kl + 3 * correlation)


def test_only_the_total_correlation_needs_several_images() -> None:
    TrainingConfig(objective="categorical", batch_size=1)
    Categorical().check_images(1)
    with pytest.raises(ConfigError, match="at least 2"):
        TrainingConfig(objective="categorical", gamma=1.0, batch_size=1)
    with pytest.raises(ConfigError, match="one image"):
        Categorical(gamma=1.0).check_images(1)


def test_a_batch_in_parts_has_the_losses_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3, num_categories=6))
    images = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 1), dtype=np.uint8)
    noise = torch.from_numpy(gumbel(np.random.default_rng(1), (33, 3, 6)))
    found = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        with Parts(network, "bernoulli", torch.device("cpu"), 33) as parts:
            reconstruction, logits = parts.losses(images, noise)
            loss = reconstruction + Posterior(logits).kl().mean(0).sum()
            found.append([loss, *torch.autograd.grad(loss, tuple(network.parameters()))])
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-3)


def test_a_run_stopped_in_the_ramp_of_the_noise_changes_no_bit_and_its_model_loads(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(
        objective="categorical", num_categories=8, num_steps=8, encoder_start="alive", preview_steps=0
    )
    whole = train(config, pack, run_folder=tmp_path / "whole")
    for stop in (5, None):
        parts = train(config, pack, run_folder=tmp_path / "parts", should_stop=None if stop is None else stop_at(stop))
    assert parts.resumed_from_step == 5
    assert all(torch.equal(tensor, weights_of(parts)[name]) for name, tensor in weights_of(whole).items())
    info = load_model(tmp_path / "whole" / "model").info
    assert info.network.num_categories == 8
    assert all(abs(mean) <= 1 for mean in info.aggregate_mean)
    with pytest.raises(ConfigError, match=r"num_categories 8 \(this run: None\)"):
        check_initial_network(SMALL.replace(num_channels=1), info.network)
    # A run from this model takes the objective of its latents, unless it names another one, which does not fit.
    taken = settings_of_model(info)
    config = resolve(None, over_inherited(taken, {"num_steps": 5, "gamma": 2.0}), from_model=True)
    assert config.objective == Categorical(num_categories=8, gamma=2.0)
    check_initial_network(config, info.network)
    imported = settings_of_model(replace(info, training={}))
    assert (imported["objective"], imported["num_categories"]) == ("categorical", 8)
    other = resolve(None, over_inherited(taken, {"objective": "beta"}), from_model=True)
    with pytest.raises(ConfigError, match=r"the model has another network: num_categories 8 \(this run: None\)"):
        check_initial_network(other, info.network)
