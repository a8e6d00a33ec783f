"""A transposed convolution with cheaper arithmetic on a CPU; results are torch's up to rounding."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of every convolution of the networks."""
_LANES = 16
"""Output channels of a convolution that is fast on every processor."""


class UpConv2d(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4, stride 2, padding 1, whose bias gradient is summed apart.

    For few output channels (a picture's 1 or 3) its forward pass is a convolution of kernel 2: twice as fast.
    So it is where gradients are recorded on a CPU. They are of first order only, and know no torch.func and no
    autocast. Parameters have torch's names.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        records = torch.is_grad_enabled() and self.weight.requires_grad
        if output_size is None and records and input.dim() == 4 and input.device.type == "cpu":
            function = _phased if 4 * self.out_channels <= _LANES else F.conv_transpose2d
            output: Tensor = _Transposed.apply(function, input, self.weight, self.bias)
            return output
        return super().forward(input, output_size)


class _Transposed(torch.autograd.Function):
    """The bias gradient that comes with oneDNN's backward pass takes up to 7 ms of a step; summed here, 0.2 ms."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return function(images, weight, bias, STRIDE, PADDING)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        images, weight = ctx.saved_tensors
        gradient = gradients[0]
        needed = [*ctx.needs_input_grad[1:3], False]
        for_images, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient, images, weight, None, [STRIDE] * 2, [PADDING] * 2, [1, 1], True, [0, 0], 1, needed
        )
        return None, for_images, for_weight, gradient.sum((0, 2, 3))


def _phased(images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """The transposed convolution of this kernel, stride and padding, as one of kernel 2 to all four phases."""
    kernel, offsets = phase_kernel(weight, bias, weight.shape[1])
    return _interleave(F.conv2d(images, kernel, offsets, padding=1), weight.shape[1])


def phase_kernel(weight: Tensor, bias: Tensor | None, spacing: int) -> tuple[Tensor, Tensor]:
    """A transposed convolution (kernel 4, stride 2, padding 1) as a convolution of kernel 2 and stride 1.

    Every second row and column of a transposed convolution's output is a convolution of its input: for output row
    2i+a the input rows i−1+a and i+a, with kernel rows 3 and 1 (a = 0), 2 and 0 (a = 1). All four (row, column)
    phases are computed together, since a convolution to C = 3 channels leaves most of the processor idle: half of
    the decoder's time went into this layer.

    Args: weight (C_in, C, 4, 4); bias (C,); spacing S ≥ C, channels from one phase to the next.
    Returns: kernel (4·S and a filling of zeros, C_in, 2, 2) and bias; channel (2a+b)·S + c holds phase (a, b).
    """
    weight = weight.detach()
    bias = weight.new_zeros(weight.shape[1]) if bias is None else bias.detach()
    # Kernel row 3 − (2k + a) is row k of phase a, and so with the columns.
    phases = weight.flip(2, 3).view(*weight.shape[:2], 2, 2, 2, 2).permute(3, 5, 1, 0, 2, 4)
    missing = spacing - len(bias)
    kernel = F.pad(phases, (0,) * 7 + (missing,)).flatten(0, 2)
    offsets = F.pad(bias, (0, missing)).repeat(4)
    filling = -len(kernel) % _LANES
    kernel = F.pad(kernel, (0,) * 7 + (filling,)).contiguous(memory_format=torch.channels_last)
    return kernel, F.pad(offsets, (0, filling))


def _interleave(phases: Tensor, channels: int) -> Tensor:
    """The four phases (B, 4·C …, H/2 + 1, W/2 + 1) → (B, C, H, W), channels last."""
    num, _, height, width = phases.shape
    height, width = height - 1, width - 1
    whole = phases.new_empty(num, height, 2, width, 2, channels)
    for a in (0, 1):
        for b in (0, 1):
            begin = (2 * a + b) * channels
            part = phases[:, begin : begin + channels, a : a + height, b : b + width]
            whole[:, :, a, :, b] = part.permute(0, 2, 3, 1)
    return whole.view(num, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
