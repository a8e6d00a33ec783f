"""A step's passes over a batch, in parts: each thread takes its share of the images through the whole network.

With the threads inside every operation instead, as torch has them, they meet some two hundred times a step and wait for
the slowest each time (docs/experiments.md, Speed). Here they meet two or three times.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.networks import VAE
from models.pixels import to_input
from training.objectives.losses import reconstruction_loss

_LEAST_IMAGES = 8
"""Of a part: with fewer, to call an operation takes longer than its arithmetic."""

_WITHIN = 0.8
"""n threads inside the operations of one part do the work of n to this power; n parts do that of n."""

_POLL_SECONDS = 0.01
"""How long a thread looks for work, or for another part's result, before it sleeps: longer than what lies between two
passes of a step. A virtual processor that sleeps is put anywhere by its host, often beside another busy one."""

_Result = TypeVar("_Result")
_Losses = tuple[Tensor, Tensor, Tensor]


class Parts:
    """Passes of a network over batches. A context, in which the calling thread's own operations use one thread.

    The calling thread takes the first part, unless a part has several threads: those of the calling thread may be from
    before denormals were flushed. On a GPU, with one thread or for a small batch there is one part, passed as ever.
    A GPU takes its pass as one recorded graph, of batches of `batch_size` alone; the network's parameters must then
    stay where they are in memory.
    """

    def __init__(self, network: VAE, likelihood: str, device: torch.device, batch_size: int) -> None:
        self._network, self._device = network, device
        self._pass = _Pass(network, likelihood)
        if device.type == "cuda":
            self._pass = _recorded(self._pass, _example(network, batch_size, device))
        self._num_threads = torch.get_num_threads()
        self.num_parts = num_parts(self._num_threads, batch_size) if device.type == "cpu" else 1
        within = self._num_threads // self.num_parts
        # A part's forward and backward pass are the same thread's, whose caches know it.
        num_others = self.num_parts - 1 if self.num_parts == 1 or within == 1 else self.num_parts
        self._others = [_Other(within) for _ in range(num_others)]

    def __enter__(self) -> Self:
        for other in self._others:
            other.start()
            _take(other.begin(int))  # It has changed the number for all threads to come.
        torch.set_num_threads(1 if self._others else self._num_threads)
        return self

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            other.end()
        torch.set_num_threads(self._num_threads)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All threads for the calling thread's operations, while no part has work."""
        torch.set_num_threads(self._num_threads)
        yield
        torch.set_num_threads(1 if self._others else self._num_threads)

    def losses(self, images: NDArray[np.uint8], noise: Tensor) -> _Losses:
        """Takes a batch through the network; gradients flow back to its parameters.

        Args: images, (B, H, W, C) uint8; noise, (B, D), that draws the latents.
        Returns: the reconstruction loss, scalar, nats an image; posterior mean and log-variance, each (B, D).
        """
        if not self._others:
            return self._forward(images, noise)
        parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        losses: _Losses = _InParts.apply(self, images, noise, *parameters)
        return losses

    def apply(self, function: Callable[[Tensor], Tensor], images: NDArray[np.uint8]) -> Tensor:
        """`function` of images as a network takes them: (B, …) of (B, H, W, C) uint8. No gradients flow through it."""
        if not self._others:
            return function(to_input(images, self._device))
        return torch.cat(self.each(lambda part: function(to_input(part, self._device)), self.split(images))).detach()

    def split(self, images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The parts' shares of a batch, in order; they differ by one image at most, as those of Tensor.tensor_split."""
        return np.array_split(images, self.num_parts)

    def each(self, function: Callable[..., _Result], *columns: Iterable[Any]) -> list[_Result]:
        """Calls a function in each part's thread; each column holds one argument, a value for each part."""
        calls = [partial(function, *row) for row in zip(*columns, strict=True)]
        num_own = self.num_parts - len(self._others)
        pending = [other.begin(call) for other, call in zip(self._others, calls[num_own:], strict=True)]
        outcomes = [*map(_outcome, calls[:num_own]), *map(_take, pending)]
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]

    def _forward(self, images: NDArray[np.uint8], noise: Tensor) -> _Losses:
        losses: _Losses = self._pass(to_input(images, self._device), noise)
        return losses


class _Pass(nn.Module):
    """A network and its loss: images (B, C, H, W) and noise (B, D) → what Parts.losses gives."""

    def __init__(self, network: VAE, likelihood: str) -> None:
        super().__init__()
        self._network, self._likelihood = network, likelihood

    def forward(self, images: Tensor, noise: Tensor) -> _Losses:
        logits, mean, log_variance = self._network(images, noise)
        return reconstruction_loss(logits, images, self._likelihood), mean, log_variance


def _recorded(losses: _Pass, example: tuple[Tensor, Tensor]) -> _Pass:
    """The pass with its kernels recorded, forward and backward: to launch one takes longer than to run it."""
    # The recording is made on a stream of its own, and keeps the nodes that gather the gradients there.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream", UserWarning)
    recorded = torch.cuda.make_graphed_callables(losses, example)
    assert isinstance(recorded, _Pass)
    return recorded


def _example(network: VAE, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Some input of a pass, laid out in memory as those to come."""
    config = network.config
    images = np.zeros((batch_size, config.image_size, config.image_size, config.num_channels), np.uint8)
    return to_input(images, device), torch.zeros(batch_size, config.latent_dim, device=device)


def num_parts(num_threads: int, batch_size: int) -> int:
    """In how many parts to take a batch, each with equally many threads: many parts, but few threads idle."""
    most = max(1, min(num_threads, batch_size // _LEAST_IMAGES))
    return max(range(1, most + 1), key=lambda count: (count * (num_threads // count) ** _WITHIN, count))


class _InParts(torch.autograd.Function):
    """Parts._forward of a whole batch. Each part's graph ends here and is its thread's to go back through."""

    @staticmethod
    def forward(ctx: Any, parts: Parts, images: NDArray[np.uint8], noise: Tensor, *parameters: Tensor) -> _Losses:
        ctx.parts, ctx.parameters = parts, parameters
        # No function of autograd records gradients on its own.
        recorded = torch.enable_grad()(parts._forward)
        ctx.graphs = parts.each(recorded, parts.split(images), noise.tensor_split(parts.num_parts))
        reconstructions, means, log_variances = zip(*ctx.graphs, strict=True)
        ctx.shares = torch.tensor([len(mean) for mean in means]) / len(images)
        return torch.stack(reconstructions) @ ctx.shares, torch.cat(means), torch.cat(log_variances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        reconstruction, mean, log_variance = gradients
        count = ctx.parts.num_parts

        def back(graph: _Losses, *outer: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = torch.autograd.grad(graph, ctx.parameters, outer)
            return found

        first, *others = ctx.parts.each(
            back,
            ctx.graphs,
            reconstruction * ctx.shares,
            mean.tensor_split(count),
            log_variance.tensor_split(count),
        )
        for other in others:  # In the parts' order, whichever was ready first: the sum's bits depend on it.
            for total, term in zip(first, other, strict=True):
                total.add_(term)
        return None, None, None, *first


_Outcome = tuple[Any, BaseException | None]
"""Of a call: its result, or the exception that it raised."""


class _Other(Thread):
    """A part's thread that is not the calling one. Takes one call after the other."""

    def __init__(self, num_threads: int) -> None:
        super().__init__(name="part", daemon=True)
        self._num_threads = num_threads
        self._calls: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[_Outcome]] | None] = SimpleQueue()

    def begin(self, call: Callable[[], Any]) -> SimpleQueue[_Outcome]:
        """Begins with a call; its outcome will be in the queue returned. Raises RuntimeError where nobody takes it."""
        if not self.is_alive():
            raise RuntimeError("parts: outside of their context no thread takes a part")
        outcome: SimpleQueue[_Outcome] = SimpleQueue()
        self._calls.put((call, outcome))
        return outcome

    def end(self) -> None:
        """Ends the thread, after the calls that it was given."""
        self._calls.put(None)
        self.join()

    def run(self) -> None:
        # Both settings are a thread's own.
        torch.get_num_threads()  # The first call in a thread takes over the number of the whole process.
        torch.set_num_threads(self._num_threads)
        torch.set_flush_denormal(True)
        while (given := _take(self._calls)) is not None:
            call, outcome = given
            outcome.put(_outcome(call))
            del given, call, outcome  # Or the tensors would live until the next call.


def _outcome(call: Callable[[], Any]) -> _Outcome:
    try:
        return call(), None
    except BaseException as error:
        return None, error


def _take(queue: SimpleQueue[_Result]) -> _Result:
    """The next item of a queue. Looks for it for a while before it sleeps."""
    end = time.perf_counter() + _POLL_SECONDS
    while queue.empty() and time.perf_counter() < end:
        time.sleep(0)  # Some 55 µs, in which Python's lock and the processor are free for others.
    return queue.get()
