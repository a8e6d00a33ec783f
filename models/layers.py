"""Layers with cheaper arithmetic on a CPU while gradients are recorded; results are torch's up to rounding.

Their gradients are of first order only, and know no torch.func and no autocast. Parameters have torch's names.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of every convolution of the networks."""
_LANES = 16
"""Output channels of a convolution that is fast on every processor."""


class SoleConsumerReLU(nn.ReLU):
    """ReLU in place, whose gradient is made in place as well: no fresh 8 MB for each layer and step.

    Its output may go only into one convolution or linear layer, or several, or views of it into them: their backward
    passes return fresh tensors, which may be overwritten. With a sum (a skip connection) the gradients would be wrong.
    """

    def __init__(self) -> None:
        super().__init__(inplace=True)

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() and input.requires_grad and input.device.type == "cpu":
            output: Tensor = _InPlaceReLU.apply(input)
            return output
        return super().forward(input)


class _InPlaceReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.mark_dirty(values)
        values.relu_()
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        gradient = gradients[0]
        if 0 in gradient.stride():  # Expanded, as by sum(): its elements share memory.
            gradient = gradient.clone()
        torch.ops.aten.threshold_backward.grad_input(gradient, values, 0, grad_input=gradient)
        return gradient


class DownConv2d(nn.Conv2d):
    """A convolution of kernel 4, stride 2, padding 1, whose bias gradient is summed apart."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING)

    def forward(self, input: Tensor) -> Tensor:
        if _records_on_cpu(input, self.weight):
            output: Tensor = _Convolution.apply(F.conv2d, False, input, self.weight, self.bias)
            return output
        return super().forward(input)


class UpConv2d(nn.ConvTranspose2d):
    """A transposed convolution of kernel 4, stride 2, padding 1, whose bias gradient is summed apart.

    For few output channels (a picture's 1 or 3) its forward pass is a convolution of kernel 2: twice as fast.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is None and _records_on_cpu(input, self.weight):
            function = _phased if 4 * self.out_channels <= _LANES else F.conv_transpose2d
            output: Tensor = _Convolution.apply(function, True, input, self.weight, self.bias)
            return output
        return super().forward(input, output_size)


def _records_on_cpu(images: Tensor, weight: Tensor) -> bool:
    gradients = torch.is_grad_enabled() and weight.requires_grad
    return gradients and images.dim() == 4 and images.device.type == "cpu"


class _Convolution(torch.autograd.Function):
    """The bias gradient that comes with oneDNN's backward pass takes up to 7 ms of a step; summed here, 0.2 ms."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], transposed: bool, images: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.transposed = transposed
        return function(images, weight, bias, STRIDE, PADDING)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, Tensor, Tensor]:
        images, weight = ctx.saved_tensors
        gradient = gradients[0]
        needed = [*ctx.needs_input_grad[2:4], False]
        for_images, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient, images, weight, None, [STRIDE] * 2, [PADDING] * 2, [1, 1], ctx.transposed, [0, 0], 1, needed
        )
        return None, None, for_images, for_weight, gradient.sum((0, 2, 3))


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
    channels = weight.shape[1]
    kernel = weight.new_zeros(-(-4 * spacing // _LANES) * _LANES, len(weight), 2, 2)
    offsets = weight.new_zeros(len(kernel))
    for a in (0, 1):
        for b in (0, 1):
            phase = slice((2 * a + b) * spacing, (2 * a + b) * spacing + channels)
            rows, columns = torch.tensor([3 - a, 1 - a]), torch.tensor([3 - b, 1 - b])
            kernel[phase] = weight[:, :, rows][..., columns].transpose(0, 1)
            if bias is not None:
                offsets[phase] = bias.detach()
    return kernel.contiguous(memory_format=torch.channels_last), offsets


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
