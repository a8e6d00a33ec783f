"""A batch in parts: what one pass over the whole batch gives, from threads of their own."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import NetworkConfig
from models.networks import VAE
from models.pixels import to_input
from training.objectives.losses import kl_per_dimension, reconstruction_loss
from training.parts import Parts, num_parts

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_number_of_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network() -> VAE:
    torch.manual_seed(0)
    return VAE(NetworkConfig(image_size=32, num_channels=3, latent_dim=4)).to(memory_format=torch.channels_last)


def batch_of(count: int) -> tuple[NDArray[np.uint8], Tensor]:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, torch.from_numpy(rng.standard_normal((count, 4), dtype=np.float32))


def gradients_of(network: VAE, rec: Tensor, mean: Tensor, log_variance: Tensor) -> list[Tensor]:
    loss = rec + 1000 * (kl_per_dimension(mean, log_variance).sum() - 3).abs()
    return list(torch.autograd.grad(loss, tuple(network.parameters())))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(("num_threads", "count"), [(1, 32), (2, 33), (4, 71), (5, 64), (9, 40)])
def test_losses_and_gradients_are_those_of_the_whole_batch(
    num_threads: int, count: int, likelihood: str, network: VAE
) -> None:
    torch.set_num_threads(num_threads)
    images, noise = batch_of(count)
    with Parts(network, likelihood, CPU, count) as parts:
        rec, mean, log_variance = parts.losses(images, noise)
        gradients = gradients_of(network, rec, mean, log_variance)
    torch.set_num_threads(1)  # With other convolutions, a ReLU's input near 0 changes its sign.
    inputs = to_input(images, CPU)
    logits, whole_mean, whole_log_variance = network(inputs, noise)
    whole_rec = reconstruction_loss(logits, inputs, likelihood)
    torch.testing.assert_close((rec, mean, log_variance), (whole_rec, whole_mean, whole_log_variance))
    expected = gradients_of(network, whole_rec, whole_mean, whole_log_variance)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-3)


def test_the_same_batch_gives_the_same_bits_however_the_threads_run(network: VAE) -> None:
    torch.set_num_threads(4)
    images, noise = batch_of(64)
    with Parts(network, "bernoulli", CPU, 64) as parts:
        first, *others = (gradients_of(network, *parts.losses(images, noise)) for _ in range(5))
    for other in others:
        assert all(map(torch.equal, first, other))


def test_a_function_of_images_is_computed_in_parts(network: VAE) -> None:
    torch.set_num_threads(3)
    images, _ = batch_of(50)
    with Parts(network, "bernoulli", CPU, 50) as parts:
        found = parts.apply(lambda inputs: network.encode(inputs)[0], images)
    assert not found.requires_grad
    torch.testing.assert_close(found, network.encode(to_input(images, CPU))[0].detach())


def test_the_calling_thread_has_one_thread_inside_and_all_while_parts_pause(network: VAE) -> None:
    torch.set_num_threads(4)
    with Parts(network, "bernoulli", CPU, 64) as parts:
        assert torch.get_num_threads() == 1
        with parts.paused():
            assert torch.get_num_threads() == 4
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    with Parts(network, "bernoulli", CPU, 15):
        assert torch.get_num_threads() == 4, "a batch too small for parts is passed with all threads"


def test_the_number_of_parts_leaves_the_fewest_threads_idle() -> None:
    assert [num_parts(threads, 64) for threads in (1, 2, 3, 4, 5, 6, 7, 8, 16)] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [num_parts(threads, 64) for threads in (11, 13, 32)] == [5, 6, 8]
    assert num_parts(6, 32) == 3, "of at least 8 images: three of two threads rather than four of one"
    assert num_parts(5, 7) == 1


def test_an_error_in_a_part_is_raised_and_the_next_batch_passes(network: VAE) -> None:
    torch.set_num_threads(2)
    images, noise = batch_of(64)
    with Parts(network, "bernoulli", CPU, 64) as parts:
        with pytest.raises(RuntimeError, match="size"):
            parts.losses(images, noise[:, :3])
        assert parts.losses(images, noise)[0].isfinite()


def test_threads_that_sleep_between_the_passes_wake_for_the_next(network: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.parts._POLL_SECONDS", 0.0)
    torch.set_num_threads(2)
    images, noise = batch_of(64)
    with Parts(network, "bernoulli", CPU, 64) as parts:
        first, second = (gradients_of(network, *parts.losses(images, noise)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_outside_of_their_context_parts_refuse_a_batch(network: VAE) -> None:
    torch.set_num_threads(2)
    images, noise = batch_of(64)
    with Parts(network, "bernoulli", CPU, 64) as parts:
        rec, *_ = parts.losses(images, noise)
    with pytest.raises(RuntimeError, match="context"):
        parts.losses(images, noise)
    with pytest.raises(RuntimeError, match="context"):
        rec.backward()  # type: ignore[no-untyped-call]


def test_every_thread_of_every_part_flushes_denormals() -> None:
    # The process is new, since OpenMP's threads keep the state that they were made with. Each part has two threads.
    script = """
import torch
from models.config import NetworkConfig
from models.networks import VAE
from training.parts import Parts

torch.set_num_threads(8)
torch.ones(1 << 22).exp()  # These threads are made before the flag is set.
torch.set_flush_denormal(True)  # A run does the same.
with Parts(VAE(NetworkConfig()), "bernoulli", torch.device("cpu"), 32) as parts:
    left = parts.each(lambda _: int((torch.full((1 << 22,), 1e-30) * 1e-10).count_nonzero()), range(4))
    print(left, parts.each(lambda _: torch.get_num_threads(), range(4)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 0, 0, 0] [2, 2, 2, 2]"
