"""The objective on pairs: its posteriors and its loss, how pairs are drawn, and runs with them."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from packs_support import write_pack
from torch.distributions import Independent, Normal, kl_divergence
from training_support import SMALL, records_of, run_facts, step_losses, stop_at, weights_of

from models.config import ConfigError, NetworkConfig
from models.files import load_model
from models.info import Preprocessing
from models.networks import VAE
from models.pixels import to_input
from models.posteriors import Gaussian
from training.calibration import measure_speed
from training.checkpoints import newest_checkpoint
from training.config import TrainingConfig
from training.data import dsprites
from training.data.packs import Pack, factor_grid, open_pack
from training.inputs import GroupBatches, batches_of, held_images
from training.loop import train
from training.objectives.adagvae import AdaGVAE, averaged, in_pairs, is_shared, kl_within_pairs
from training.objectives.pairs import FactorPairs, SequencePairs
from training.parts import Parts

SIZES = (3, 4, 5)
GRID = factor_grid(SIZES)
ALL = np.arange(len(GRID))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Sprites of 32 px, a grid of three factors."""
    shape, x, y = GRID.T
    zeros = np.zeros(len(GRID), int)
    images = dsprites.render(np.stack([shape, zeros, zeros, 8 * x, 7 * y], 1), 32)[..., None]
    folder = tmp_path_factory.mktemp("pack") / "grid"
    write_pack(
        folder,
        [images],
        name="grid",
        kind="array",
        source="test",
        preprocessing=Preprocessing(image_size=32),
        factors=GRID,
        factor_names=("shape", "x", "y"),
        factor_sizes=SIZES,
    )
    return open_pack(folder)


def random_posterior(num_pairs: int, latent_dim: int) -> Gaussian:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 2 * num_pairs, latent_dim, generator=generator)
    return Gaussian(mean, log_variance)


def test_the_kl_within_a_pair_is_that_of_its_gaussians() -> None:
    mean, log_variance = (in_pairs(part) for part in random_posterior(6, 4))
    first, second = (Normal(mean[:, k], (0.5 * log_variance[:, k]).exp()) for k in (0, 1))
    torch.testing.assert_close(kl_within_pairs(mean, log_variance), kl_divergence(first, second))
    one = kl_within_pairs(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.0], [math.log(4)]]]))
    assert one.item() == pytest.approx(math.log(2) + (1 + 4) / 8 - 0.5)


def test_dimensions_below_half_of_max_and_min_are_shared() -> None:
    kl = torch.tensor([[0.0, 2.0, 0.99, 1.0], [3.0, 1.0, 1.5, 2.1], [2.0, 2.0, 2.0, 2.0]])
    expected = [[True, False, True, False], [False, True, True, False], [False, False, False, False]]
    assert is_shared(kl).tolist() == expected


def test_a_pair_has_the_mean_of_means_and_variances_where_it_shares() -> None:
    mean = torch.tensor([[1.0, 5.0, 0.0], [1.5, -3.0, 0.0]])
    variance = torch.tensor([[1.0, 1.0, 0.5], [3.0, 1.0, 0.5]])
    found = averaged(Gaussian(mean, variance.log()))
    torch.testing.assert_close(found.mean, torch.tensor([[1.25, 5.0, 0.0], [1.25, -3.0, 0.0]]))
    torch.testing.assert_close(found.log_variance.exp(), torch.tensor([[2.0, 1.0, 0.5], [2.0, 1.0, 0.5]]))


def test_the_loss_is_the_mean_elbo_of_both_pictures() -> None:
    """The ELBOs are computed here with torch's distributions, pair by pair and dimension by dimension."""
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3))
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    noise = torch.randn(6, 3)
    objective = AdaGVAE(beta=3.0)
    parts = Parts(network, "bernoulli", torch.device("cpu"), 6, objective)
    reconstruction, mean, log_variance = parts.losses(images, noise)
    losses = step_losses(mean, log_variance)
    penalty = objective.begin(run_facts(3))
    found = reconstruction + penalty.loss(losses)

    pictures = to_input(images, torch.device("cpu"))
    own_mean, own_log_variance = network.encode(pictures)
    own_variance = own_log_variance.exp()
    total, num_shared = torch.zeros(()), 0
    for pair in ([0, 1], [2, 3], [4, 5]):
        first, second = (Normal(own_mean[k], own_variance[k].sqrt()) for k in pair)
        delta = kl_divergence(first, second)
        for k in pair:
            mean, variance = own_mean[k].clone(), own_variance[k].clone()
            for d in range(3):
                if delta[d] < (delta.max() + delta.min()) / 2:
                    mean[d], variance[d] = own_mean[pair, d].mean(), own_variance[pair, d].mean()
                    num_shared += 1
            posterior = Independent(Normal(mean, variance.sqrt()), 1)
            logits = network.decoder((mean + variance.sqrt() * noise[k])[None])
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(
                logits, pictures[k][None], reduction="sum"
            )
            total = total + 3.0 * kl_divergence(posterior, Independent(Normal(torch.zeros(3), torch.ones(3)), 1))
    torch.testing.assert_close(found, total / 6, rtol=1e-5, atol=1e-3)
    gradients = (torch.autograd.grad(loss, tuple(network.parameters())) for loss in (found, total / 6))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    assert penalty.metrics(0) == {"beta": 3.0, "shared_dimensions": pytest.approx(num_shared / 6)}
    assert objective.validation_loss(10.0, 2.0) == 16.0


def test_a_batch_in_parts_keeps_pairs_together() -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3))
    images = np.random.default_rng(0).integers(0, 256, (34, 32, 32, 1), dtype=np.uint8)
    noise = torch.randn(34, 3)
    found = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        with Parts(network, "bernoulli", torch.device("cpu"), 34, AdaGVAE()) as parts:
            assert [len(part) for part in parts.split(images)] == ([34] if num_threads == 1 else [12, 12, 10])
            reconstruction, *parameters = parts.losses(images, noise)
            loss = reconstruction + Gaussian(*parameters).kl().mean(0).sum()
            found.append([loss, *torch.autograd.grad(loss, tuple(network.parameters()))])
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("num_changed", "expected"), [(1, {1}), (2, {2}), (0, {1, 2})])
def test_pairs_differ_in_the_given_number_of_factors(num_changed: int, expected: set[int]) -> None:
    training = np.sort(np.random.default_rng(1).permutation(ALL)[:45])  # A quarter of the grid is for validation.
    pairs = FactorPairs(GRID, training, num_changed)(np.random.default_rng(0), 6000)
    assert pairs.shape == (6000, 2)
    assert set(pairs.flat) <= set(training)
    differs = GRID[pairs[:, 0]] != GRID[pairs[:, 1]]
    assert set(differs.sum(1)) == expected
    # Every factor is chosen about as often, and a pair of a whole grid has every other value about as often.
    whole = FactorPairs(GRID, ALL, num_changed)(np.random.default_rng(0), 6000)
    differs = GRID[whole[:, 0]] != GRID[whole[:, 1]]
    assert differs.mean(0) == pytest.approx([np.mean([*expected]) / 3] * 3, abs=0.03)
    moved = Counter(((GRID[whole[:, 1], 2].astype(int) - GRID[whole[:, 0], 2]) % 5)[differs[:, 2]].tolist())
    assert [moved[k] / moved.total() for k in (1, 2, 3, 4)] == pytest.approx([0.25] * 4, abs=0.03)


def test_pairs_of_pictures_with_equal_factors_use_each_of_them() -> None:
    factors = np.repeat(np.array([[0, 0], [0, 1], [1, 0]]), 4, axis=0)
    factors = np.column_stack([factors, np.zeros(12, int)])  # A factor with one value cannot differ.
    found = Counter(map(tuple, FactorPairs(factors, np.arange(12), 1)(np.random.default_rng(0), 6400).tolist()))
    possible = {(i, k) for i in range(12) for k in range(12) if (factors[i] != factors[k]).sum() == 1}
    assert found.keys() == possible
    assert min(found.values()) > 50


@pytest.mark.parametrize(
    ("factors", "num_changed"),
    [
        (np.stack([np.arange(500), np.arange(500)], 1), 1),  # Measurements, each of which occurs once.
        (np.zeros((9, 2), int), 1),
        (np.stack([np.arange(9) % 3, np.zeros(9, int)], 1), 1),  # Nothing is left to share.
        (GRID, 3),
    ],
)
def test_sets_without_such_pairs_are_refused(factors: np.ndarray, num_changed: int) -> None:
    with pytest.raises(ConfigError, match="too few training pictures differ in exactly") as caught:
        FactorPairs(factors, np.arange(len(factors)), num_changed)
    assert caught.value.field == "num_changed"


def test_frames_of_a_pair_are_near_each_other_in_one_sequence() -> None:
    place = np.array([2, 0, 1, 3, 0, 1, 2, 0, 0, 9])
    sequence = np.array([0, 0, 0, 0, 1, 1, 1, 2, -1, 2])
    sequences = np.stack([sequence, place], 1)
    training = np.array([0, 1, 2, 3, 4, 6, 7, 8, 9])  # Frame 5 is for validation, and 4 and 6 are 2 apart.
    drawn = SequencePairs(sequences, training, 1)(np.random.default_rng(0), 3000)
    counts = Counter(map(tuple, drawn.tolist()))
    assert counts.keys() == {(1, 2), (2, 1), (2, 0), (0, 2), (0, 3), (3, 0)}
    # Each of the four frames begins a quarter of the pairs; those with two neighbours are followed by either.
    shares = [counts[pair] / 3000 for pair in ((1, 2), (2, 1), (2, 0), (0, 3), (3, 0))]
    assert shares == pytest.approx([0.25, 0.125, 0.125, 0.125, 0.25], abs=0.03)
    farther = SequencePairs(sequences, training, 2)(np.random.default_rng(0), 3000)
    own = {tuple(pair) for pair in farther.tolist()}
    assert own == {(i, k) for i in (0, 1, 2, 3) for k in (0, 1, 2, 3) if 0 < abs(place[i] - place[k]) <= 2} | {
        (4, 6),
        (6, 4),
    }
    with pytest.raises(ConfigError, match="no two training frames of a sequence are within 1 of each other") as caught:
        SequencePairs(sequences, np.array([4, 6, 7, 9]), 1)
    assert caught.value.field == "max_distance"
    with pytest.raises(ConfigError, match="no two training frames"):
        SequencePairs(sequences, np.array([8]), 1)


def test_a_batch_of_pairs_depends_on_seed_and_step_alone(grid: Pack) -> None:
    config = TrainingConfig(objective="adagvae", batch_size=8, image_size=32, num_channels=1)
    batches = batches_of(grid, ALL, config)
    assert isinstance(batches, GroupBatches)
    assert (batches.batch_size, batches.steps_per_epoch) == (8, 7)
    later = batches_of(grid, ALL, config)
    assert later.indices_at(9).tolist() == batches.indices_at(9).tolist()
    assert batches.indices_at(3).tolist() != batches.indices_at(4).tolist()
    assert batches_of(grid, ALL, config.replace(seed=1)).indices_at(3).tolist() != batches.indices_at(3).tolist()
    np.testing.assert_array_equal(batches.at(3), grid.images[batches.indices_at(3)])
    later.images = held_images(grid.images, torch.device("cpu"))  # A GPU holds them so.
    held = later.at(3)
    assert isinstance(held, torch.Tensor)
    np.testing.assert_array_equal(held.numpy(), batches.at(3))
    pairs = batches.indices_at(3).reshape(-1, 2)
    assert ((GRID[pairs[:, 0]] != GRID[pairs[:, 1]]).sum(1) == 1).all()
    assert batches_of(grid, ALL[:59], config.replace(batch_size=64)).batch_size == 58


@pytest.mark.parametrize(
    ("settings", "factor_sizes", "has_sequences", "field", "message"),
    [
        (
            {"pairs": "sequence"},
            SIZES,
            False,
            "pairs",
            "sequence needs videos or numbered pictures, and this set has none",
        ),
        ({}, (), True, "pairs", "factors needs at least two labelled factors, and this set has none"),
        ({}, (7, 1), False, "pairs", "factors needs at least two labelled factors, and this set has 1"),
        ({"num_changed": 3}, SIZES, False, "num_changed", "must be below 3, the number of the set's factors, not 3"),
    ],
)
def test_a_set_without_the_labels_for_pairs_is_refused(
    settings: dict[str, object], factor_sizes: tuple[int, ...], has_sequences: bool, field: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        AdaGVAE(**settings).check_labels(factor_sizes, has_sequences)
    assert (caught.value.field, caught.value.message) == (field, message)
    AdaGVAE(pairs="sequence").check_labels((), True)
    AdaGVAE(num_changed=0).check_labels((2, 2), False)


def test_a_batch_is_whole_pairs_and_there_are_latents_to_compare() -> None:
    for settings, field, message in (
        ({"batch_size": 7}, "batch_size", "must be even for adagvae, which compares the pictures of a pair, not 7"),
        ({"latent_dim": 1}, "latent_dim", "must be at least 2 for adagvae, which compares the latents of a pair"),
    ):
        with pytest.raises(ConfigError) as caught:
            TrainingConfig(objective="adagvae", **settings)
        assert (caught.value.field, caught.value.message) == (field, message)


def test_a_run_on_a_set_without_factors_is_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two labelled factors"):
        train(SMALL.replace(objective="adagvae"), pack, run_folder=tmp_path)


def test_the_speed_of_a_run_is_measured_without_a_set() -> None:
    config = TrainingConfig(objective="adagvae", num_changed=2, image_size=32, num_channels=1, batch_size=8)
    assert measure_speed(config, seconds=0) > 0


@pytest.mark.parametrize("restarting", [{}, {"beta_start": 0.01, "restart_step": 3, "restart_components": 1}])
def test_a_stopped_run_on_pairs_of_factors_changes_no_bit_and_its_model_loads(
    restarting: dict[str, object], grid: Pack, tmp_path: Path
) -> None:
    torch.set_num_threads(2)
    config = SMALL.replace(
        objective="adagvae",
        num_changed=0,
        batch_size=16,
        num_steps=6,
        encoder_start="alive",
        preview_steps=0,
        **restarting,
    )
    whole = train(config, grid, run_folder=tmp_path / "whole")
    for stop in (4, None):
        parts = train(config, grid, run_folder=tmp_path / "parts", should_stop=None if stop is None else stop_at(stop))
        if stop:
            stopped = newest_checkpoint(tmp_path / "parts" / "checkpoints")
            assert stopped is not None
            assert ("teacher_residual.taught" in stopped.tensors) == bool(restarting)
    assert parts.resumed_from_step == 4
    assert all(torch.equal(tensor, weights_of(parts)[name]) for name, tensor in weights_of(whole).items())
    shared = [record["shared_dimensions"] for record in records_of(tmp_path / "whole") if "kl" in record]
    assert len(shared) == 2
    assert all(1 <= count <= 3 for count in shared)
    assert load_model(tmp_path / "whole" / "model").info.training["pairs"] == "factors"
