"""Stacks of convolutions whose gradients cost less on a CPU than torch's; the results agree up to rounding."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.convolutions import loader as convolutions

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Geometry of every convolution of the networks."""
_LANES = 16
"""Number of output channels of which a convolution that is fast on every processor has a multiple."""
_GEOMETRY = [STRIDE] * 2, [PADDING] * 2, [1, 1]
"""Stride, padding and dilation."""


def run_convolutions(images: Tensor, layers: Sequence[nn.Module]) -> Tensor:
    """Runs convolutions, all plain or all transposed (kernel 4, stride 2, padding 1), and the ReLUs between them.

    Where gradients are recorded on a CPU, the whole stack is one autograd function, which supports neither second-order
    gradients nor torch.func nor autocast.

    Args:
        images: Input of the first layer, (B, C, H, W).
        layers: The layers in the order of an nn.Sequential.

    Returns:
        Output of the last layer, (B, C', H', W').
    """
    weighted = [layer for layer in layers if not isinstance(layer, nn.ReLU)]
    parameters = [parameter for layer in weighted for parameter in (layer.weight, layer.bias)]
    records = torch.is_grad_enabled() and all(p.requires_grad and p.device.type == "cpu" for p in parameters)
    if not records:
        for layer in layers:
            images = layer(images)
        return images
    rectified = [isinstance(layer, nn.ReLU) for layer in layers[1:]] + [False]
    followed = [flag for layer, flag in zip(layers, rectified, strict=True) if not isinstance(layer, nn.ReLU)]
    output: Tensor = _Stack.apply(isinstance(layers[0], nn.ConvTranspose2d), followed, images, *parameters)
    return output


class _Stack(torch.autograd.Function):
    """The whole stack as one autograd function.

    The stack costs less than its separate layers for three reasons. The compiled convolutions need fewer
    multiplications. No other code sees the gradients between layers, so the gradient of a ReLU overwrites its input,
    which halves its time and saves 8 MB of cache per batch. The bias gradients are separate sums, which take 0.2 ms per
    step; inside oneDNN's backward pass they take up to 7 ms.
    """

    @staticmethod
    def forward(ctx: Any, transposed: bool, rectified: list[bool], images: Tensor, *parameters: Tensor) -> Tensor:
        outputs, weights = [images], parameters[::2]
        for weight, bias, relu in zip(weights, parameters[1::2], rectified, strict=True):
            if convolutions.fits(outputs[-1], weight, transposed):
                run = convolutions.transposed_convolution if transposed else convolutions.convolution
                outputs.append(run(outputs[-1], weight, bias, relu))
                continue
            if transposed and 4 * weight.shape[1] <= _LANES and images.dtype == torch.float32 and len(images):
                output = _blockwise(outputs[-1], weight, bias)
            else:
                output = torch.convolution(outputs[-1], weight, bias, *_GEOMETRY, transposed, [0, 0], 1)
            outputs.append(output.relu_() if relu else output)
        ctx.transposed, ctx.rectified = transposed, rectified
        # The backward pass needs the last output only where a ReLU follows the last convolution.
        ctx.save_for_backward(*weights, *(outputs if rectified[-1] else outputs[:-1]))
        return outputs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.rectified)
        weights, outputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        gradient, is_ours = gradients[0], False
        found: list[Tensor] = []
        for k in reversed(range(count)):
            if ctx.rectified[k]:
                # The gradient from outside may be in use elsewhere; only gradients made here are overwritten.
                target = {"grad_input": gradient} if is_ours else {}
                gradient = torch.ops.aten.threshold_backward(gradient, outputs[k + 1], 0, **target)
            needed = k > 0 or ctx.needs_input_grad[2]
            for_bias = gradient.sum((0, 2, 3))
            if convolutions.fits(outputs[k], weights[k], ctx.transposed):
                for_weight = convolutions.weight_gradient(gradient, outputs[k], weights[k], ctx.transposed)
                # The input's gradient is the opposite kind of convolution, applied to the output's gradient.
                back = convolutions.convolution if ctx.transposed else convolutions.transposed_convolution
                if needed:
                    gradient = back(gradient, weights[k])
            else:
                gradient, for_weight, _ = torch.ops.aten.convolution_backward(
                    gradient, outputs[k], weights[k], None, *_GEOMETRY, ctx.transposed, [0, 0], 1, [needed, True, False]
                )
            is_ours = True
            found += [for_bias, for_weight]
        return None, None, gradient if ctx.needs_input_grad[2] else None, *reversed(found)


def _blockwise(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Computes a transposed convolution to few channels over blocks of 2×2 pixels, in half of torch's time.

    Args:
        images: (B, C_in, H, W).
        weight: (C_in, C, 4, 4).
        bias: (C,).

    Returns:
        (B, C, 2·H, 2·W).
    """
    channels = weight.shape[1]
    kernel, offsets = block_kernel(weight, bias, channels)
    blocks = F.conv2d(images, kernel, offsets, padding=1).permute(0, 2, 3, 1).contiguous()
    num, height, width, _ = blocks.shape
    # The two pixels of a row are moved as doubles, which halves the number of values for the same bytes.
    rows = blocks.view(torch.float64)[..., : 2 * channels].reshape(num, height, width, 2, channels)
    pixels = rows.transpose(2, 3).contiguous().view(torch.float32).view(num, 2 * height, 2 * width, channels)
    inner: Tensor = pixels[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
    return inner


def block_kernel(weight: Tensor, bias: Tensor | None, spacing: int) -> tuple[Tensor, Tensor]:
    """Turns a transposed convolution (kernel 4, stride 2, padding 1) into one of kernel 2, stride 1 and padding 1.

    The 2×2 output pixels at rows 2i−1 and 2i and columns 2j−1 and 2j depend on the 2×2 input pixels at rows i−1 and i
    and columns j−1 and j: row 2i−1 uses kernel rows 2 and 0, row 2i uses rows 3 and 1, and the columns likewise. The
    four pixels are computed together, since a convolution to C = 3 channels leaves most of the processor idle: this
    layer took half of the decoder's time.

    Args:
        weight: (C_in, C, 4, 4).
        bias: (C,), or None for zeros.
        spacing: Channels S ≥ C from one pixel to the next.

    Returns:
        The kernel, (4·S and a padding of zeros, C_in, 2, 2), and the bias. At (i, j), channel (2r+s)·S + c of the
        result is channel c of the output at row 2i−1+r and column 2j−1+s; the outermost rows and columns lie outside
        the output.
    """
    weight = weight.detach()
    bias = weight.new_zeros(weight.shape[1]) if bias is None else bias.detach()
    # Kernel row 2·(1−k) + r is row k of block row r.
    blocks = weight.view(*weight.shape[:2], 2, 2, 2, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
    missing = spacing - len(bias)
    kernel = F.pad(blocks, (0,) * 7 + (missing,)).flatten(0, 2)
    offsets = F.pad(bias, (0, missing)).repeat(4)
    filling = -len(kernel) % _LANES
    kernel = F.pad(kernel, (0,) * 7 + (filling,)).contiguous(memory_format=torch.channels_last)
    return kernel, F.pad(offsets, (0, filling))
