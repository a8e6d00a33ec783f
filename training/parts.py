"""A step's passes over a batch, in parts: each thread takes its share of the images through the whole network.

With the threads inside every operation instead, as torch has them, they meet some two hundred times a step and wait for
the slowest each time (training/NOTES.md, Speed). Here they meet twice.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.networks import VAE
from training.inputs import to_input
from training.objectives import reconstruction_loss

_LEAST_IMAGES = 8
"""Of a part: with fewer, to call an operation takes longer than its arithmetic."""

_WITHIN = 0.8
"""n threads inside the operations of one part do the work of n to this power; n parts do that of n."""

_Result = TypeVar("_Result")
_Losses = tuple[Tensor, Tensor, Tensor]


class Parts:
    """Passes of a network over batches. A context, in which the calling thread's own operations use one thread.

    On a GPU, with one thread or for a small batch there is one part, which the calling thread passes as ever.
    """

    def __init__(self, network: VAE, likelihood: str, device: torch.device, batch_size: int) -> None:
        self._network, self._likelihood, self._device = network, likelihood, device
        self._num_threads = torch.get_num_threads()
        count = num_parts(self._num_threads, batch_size) if device.type == "cpu" else 1
        within = self._num_threads // count
        # An executor for each: a part's forward and backward pass are the same thread's, whose caches know it.
        self._executors = [ThreadPoolExecutor(1, "part", _begin, (within,)) for _ in range(count)] if count > 1 else []

    def __enter__(self) -> Self:
        for executor in self._executors:
            executor.submit(int).result()  # _begin has changed the number for all threads to come.
        torch.set_num_threads(1 if self._executors else self._num_threads)
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors:
            executor.shutdown()
        torch.set_num_threads(self._num_threads)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All threads for the calling thread's operations, while no part has work."""
        torch.set_num_threads(self._num_threads)
        yield
        torch.set_num_threads(1 if self._executors else self._num_threads)

    def losses(self, images: NDArray[np.uint8], noise: Tensor) -> _Losses:
        """Takes a batch through the network; gradients flow back to its parameters.

        Args: images, (B, H, W, C) uint8; noise, (B, D), that draws the latents.
        Returns: the reconstruction loss, scalar, nats an image; posterior mean and log-variance, each (B, D).
        """
        if not self._executors:
            return self._forward(images, noise)
        parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        losses: _Losses = _InParts.apply(self, images, noise, *parameters)
        return losses

    def apply(self, function: Callable[[Tensor], Tensor], images: NDArray[np.uint8]) -> Tensor:
        """`function` of images as a network takes them: (B, …) of (B, H, W, C) uint8. No gradients flow through it."""
        if not self._executors:
            return function(to_input(images, self._device))
        return torch.cat(self.each(lambda part: function(to_input(part, self._device)), self.split(images))).detach()

    def split(self, images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The parts' shares of a batch, in order; they differ by one image at most, as those of Tensor.tensor_split."""
        return np.array_split(images, len(self._executors))

    def each(self, function: Callable[..., _Result], *columns: Iterable[Any]) -> list[_Result]:
        """Calls a function in each part's thread; each column holds one argument, a value for each part."""
        futures = [e.submit(function, *row) for e, *row in zip(self._executors, *columns, strict=True)]
        return [future.result() for future in futures]

    def _forward(self, images: NDArray[np.uint8], noise: Tensor) -> _Losses:
        inputs = to_input(images, self._device)
        logits, mean, log_variance = self._network(inputs, noise)
        return reconstruction_loss(logits, inputs, self._likelihood), mean, log_variance


def num_parts(num_threads: int, batch_size: int) -> int:
    """In how many parts to take a batch, each with equally many threads: many parts, but few threads idle."""
    most = max(1, min(num_threads, batch_size // _LEAST_IMAGES))
    return max(range(1, most + 1), key=lambda count: (count * (num_threads // count) ** _WITHIN, count))


class _InParts(torch.autograd.Function):
    """Parts._forward of a whole batch. Each part's graph ends here and is its thread's to go back through."""

    @staticmethod
    def forward(ctx: Any, parts: Parts, images: NDArray[np.uint8], noise: Tensor, *parameters: Tensor) -> _Losses:
        count = len(parts.split(images))
        ctx.parts, ctx.parameters = parts, parameters
        ctx.graphs = parts.each(parts._forward, parts.split(images), noise.tensor_split(count))
        reconstructions, means, log_variances = zip(*ctx.graphs, strict=True)
        ctx.shares = torch.tensor([len(mean) for mean in means]) / len(images)
        return torch.stack(reconstructions) @ ctx.shares, torch.cat(means), torch.cat(log_variances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        reconstruction, mean, log_variance = gradients
        count = len(ctx.graphs)

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


def _begin(num_threads: int) -> None:
    """What a part's thread begins with; both settings are a thread's own."""
    torch.get_num_threads()  # The first call in a thread takes over the number of the whole process.
    torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)
