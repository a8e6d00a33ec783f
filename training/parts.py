"""Splits a step's passes over a batch into parts: each thread takes its share of the images through the whole network.

torch's own threads divide every operation instead, so that they synchronise about two hundred times per step and wait
for the slowest thread each time (docs/experiments.md, Speed). Here they synchronise two or three times.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.networks import VAE
from models.pixels import to_input
from training.inputs import Images
from training.objectives.base import Objective
from training.objectives.losses import reconstruction_loss

_LEAST_IMAGES = 8
"""Minimum number of images per part. With fewer, calling an operation takes longer than its arithmetic."""

_WITHIN = 0.8
"""Exponent of the speed-up of threads inside one part: n threads do the work of n to this power, n parts that of n."""

_POLL_SECONDS = 0.01
"""Time that a thread polls for work, or for another part's result, before it sleeps. It is longer than the gap between
two passes of a step: the host may move a sleeping virtual processor anywhere, often beside another busy one."""

_Result = TypeVar("_Result")
_Losses = tuple[Tensor, ...]


class Parts:
    """Passes of a network over batches; a context in which the calling thread's own operations use one thread.

    The calling thread takes the first part, unless a part has several threads, since those of the calling thread may
    have started before denormals were flushed. On a GPU, with one thread, or for a small batch, there is one part,
    which the calling thread takes. A GPU runs its pass as one recorded graph, for batches of exactly `batch_size`; the
    network's parameters must then stay where they are in memory.
    """

    def __init__(
        self,
        network: VAE,
        likelihood: str,
        device: torch.device,
        batch_size: int,
        objective: Objective | None = None,
    ) -> None:
        """Prepares the passes.

        Args:
            network: The network.
            likelihood: The likelihood of a pixel.
            device: The device of the network.
            batch_size: Images per batch.
            objective: The objective, whose groups of images stay in one part; None where images have no groups.
        """
        self._network, self._device = network, device
        self._group_size = 1 if objective is None else objective.group_size
        self._pass = _Pass(network, likelihood, objective)
        if device.type == "cuda":
            self._pass = _recorded(self._pass, _example(network, batch_size, device))
        self._num_threads = torch.get_num_threads()
        self.num_parts = num_parts(self._num_threads, batch_size) if device.type == "cpu" else 1
        within = self._num_threads // self.num_parts
        # One thread runs both the forward and the backward pass of a part, whose data are in its caches.
        num_others = self.num_parts - 1 if self.num_parts == 1 or within == 1 else self.num_parts
        self._others = [_Other(within) for _ in range(num_others)]

    def __enter__(self) -> Self:
        for other in self._others:
            other.start()
            _take(other.begin(int))  # By then the thread has set its number, which also affects later threads.
        torch.set_num_threads(1 if self._others else self._num_threads)
        return self

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            other.end()
        torch.set_num_threads(self._num_threads)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Lets the calling thread's operations use all threads in a block, while no part has work."""
        torch.set_num_threads(self._num_threads)
        yield
        torch.set_num_threads(1 if self._others else self._num_threads)

    def losses(self, images: Images, noise: Tensor) -> _Losses:
        """Runs a batch through the network; gradients flow back to its parameters.

        Args:
            images: (B, H, W, C) uint8.
            noise: The noise that draws the latents, (B, *noise_shape).

        Returns:
            The reconstruction loss (scalar, nats per image), and the parameters of the posterior as VAE.forward returns
            them: mean and log-variance, each (B, D), for Gaussian latents.
        """
        if not self._others:
            return self._forward(images, noise)
        parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        losses: _Losses = _InParts.apply(self, images, noise, *parameters)
        return losses

    def apply(self, function: Callable[[Tensor], Tensor], images: Images) -> Tensor:
        """Applies a function to images in parts, without gradients.

        Args:
            function: Maps a network's input (N, C, H, W) to (N, …).
            images: (B, H, W, C) uint8.

        Returns:
            The function's values, (B, …).
        """
        if not self._others:
            return function(to_input(images, self._device))
        return torch.cat(self.each(lambda part: function(to_input(part, self._device)), self.split(images))).detach()

    def split(self, images: Images) -> Sequence[Images]:
        """Returns the parts' shares of a batch, in order; sizes differ by at most one group."""
        places = self.places(len(images))
        return images.tensor_split(places) if isinstance(images, Tensor) else np.array_split(images, places)

    def places(self, num_images: int) -> tuple[int, ...]:
        """Returns where the second part of a batch begins, the third, and so on."""
        size, num_larger = divmod(num_images // self._group_size, self.num_parts)
        return tuple(self._group_size * (k * size + min(k, num_larger)) for k in range(1, self.num_parts))

    def each(self, function: Callable[..., _Result], *columns: Iterable[Any]) -> list[_Result]:
        """Calls a function in each part's thread, and returns the results in order.

        Args:
            function: The function.
            columns: One column per argument, each with one value per part.
        """
        calls = [partial(function, *row) for row in zip(*columns, strict=True)]
        num_own = self.num_parts - len(self._others)
        pending = [other.begin(call) for other, call in zip(self._others, calls[num_own:], strict=True)]
        outcomes = [*map(_outcome, calls[:num_own]), *map(_take, pending)]
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]

    def _forward(self, images: Images, noise: Tensor) -> _Losses:
        losses: _Losses = self._pass(to_input(images, self._device), noise)
        return losses


class _Pass(nn.Module):
    """A network with its loss; it maps images (B, C, H, W) and their noise to the output of Parts.losses."""

    def __init__(self, network: VAE, likelihood: str, objective: Objective | None) -> None:
        super().__init__()
        self._network, self._likelihood = network, likelihood
        self._join = None if objective is None else objective.joined

    def forward(self, images: Tensor, noise: Tensor) -> _Losses:
        logits, *parameters = self._network(images, noise, self._join)
        return reconstruction_loss(logits, images, self._likelihood), *parameters


def _recorded(losses: _Pass, example: tuple[Tensor, Tensor]) -> _Pass:
    """Returns the pass with recorded kernels, forward and backward, since launching a kernel takes longer than its run.

    Args:
        losses: The pass.
        example: Images (B, C, H, W) and noise (B, *noise_shape) of the batch size to record.
    """
    # The recording uses a separate stream, and the nodes that accumulate gradients stay on it.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream", UserWarning)
    recorded = torch.cuda.make_graphed_callables(losses, example)
    assert isinstance(recorded, _Pass)
    return recorded


def _example(network: VAE, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns an example input of a pass, with the memory layout of the later inputs."""
    config = network.config
    images = np.zeros((batch_size, config.image_size, config.image_size, config.num_channels), np.uint8)
    return to_input(images, device), torch.zeros(batch_size, *network.noise_shape, device=device)


def num_parts(num_threads: int, batch_size: int) -> int:
    """Returns the number of parts of a batch, each with equally many threads, so that few threads are idle.

    Args:
        num_threads: Number of threads in all.
        batch_size: Images per batch.
    """
    most = max(1, min(num_threads, batch_size // _LEAST_IMAGES))
    return max(range(1, most + 1), key=lambda count: (count * (num_threads // count) ** _WITHIN, count))


class _InParts(torch.autograd.Function):
    """Parts._forward of a whole batch. Each part's graph ends here, and its own thread runs the backward pass of it."""

    @staticmethod
    def forward(ctx: Any, parts: Parts, images: Images, noise: Tensor, *parameters: Tensor) -> _Losses:
        ctx.parts, ctx.parameters = parts, parameters
        # Gradients are not recorded inside an autograd function unless they are enabled.
        recorded = torch.enable_grad()(parts._forward)
        ctx.graphs = parts.each(recorded, parts.split(images), noise.tensor_split(parts.places(len(noise))))
        reconstructions, *posteriors = zip(*ctx.graphs, strict=True)
        ctx.shares = torch.tensor([len(part) for part in posteriors[0]]) / len(images)
        return torch.stack(reconstructions) @ ctx.shares, *(torch.cat(column) for column in posteriors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        reconstruction, *parameters = gradients
        places = ctx.parts.places(len(parameters[0]))

        def back(graph: _Losses, *outer: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = torch.autograd.grad(graph, ctx.parameters, outer)
            return found

        first, *others = ctx.parts.each(
            back,
            ctx.graphs,
            reconstruction * ctx.shares,
            *(parameter.tensor_split(places) for parameter in parameters),
        )
        for other in others:  # The parts' order is fixed, whichever was ready first, since the sum's bits depend on it.
            for total, term in zip(first, other, strict=True):
                total.add_(term)
        return None, None, None, *first


_Outcome = tuple[Any, BaseException | None]
"""Outcome of a call: its result, or the exception that it raised."""


class _Other(Thread):
    """A part's thread other than the calling one, which runs one call after the other."""

    def __init__(self, num_threads: int) -> None:
        super().__init__(name="part", daemon=True)
        self._num_threads = num_threads
        self._calls: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[_Outcome]] | None] = SimpleQueue()

    def begin(self, call: Callable[[], Any]) -> SimpleQueue[_Outcome]:
        """Queues a call.

        Args:
            call: The call to run in this thread.

        Returns:
            A queue that receives the call's outcome.

        Raises:
            RuntimeError: The thread is not running.
        """
        if not self.is_alive():
            raise RuntimeError("parts: no thread runs a part outside of their context")
        outcome: SimpleQueue[_Outcome] = SimpleQueue()
        self._calls.put((call, outcome))
        return outcome

    def end(self) -> None:
        """Ends the thread after its queued calls."""
        self._calls.put(None)
        self.join()

    def run(self) -> None:
        # Both settings belong to a thread.
        torch.get_num_threads()  # The first call in a thread adopts the number of the whole process.
        torch.set_num_threads(self._num_threads)
        torch.set_flush_denormal(True)
        while (given := _take(self._calls)) is not None:
            call, outcome = given
            outcome.put(_outcome(call))
            del given, call, outcome  # Otherwise the tensors would stay alive until the next call.


def _outcome(call: Callable[[], Any]) -> _Outcome:
    try:
        return call(), None
    except BaseException as error:
        return None, error


def _take(queue: SimpleQueue[_Result]) -> _Result:
    """Returns the next item of a queue, and polls for a while before sleeping."""
    end = time.perf_counter() + _POLL_SECONDS
    while queue.empty() and time.perf_counter() < end:
        time.sleep(0)  # This takes about 55 µs, in which other threads can use Python's lock and the processor.
    return queue.get()
