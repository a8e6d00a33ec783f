"""The networks' convolutions (kernel 4, stride 2, padding 1) on a CPU, compiled from convolutions.c.

Between maps of many channels they take nine sixteenths of the multiplications, by Winograd's minimal filtering (Lavin &
Gray 2016), which no library for CPUs offers for this kernel and stride; from and to pictures they keep the processor as
busy as products of matrices do. They are compiled where the package is installed, if there is a C compiler, and used on
processors with AVX-512; elsewhere torch's convolutions do the same work, and results differ by rounding alone.
"""

import ctypes
import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_PICTURE_CHANNELS = (1, 3)
_CHANNELS = 32
"""Of every other map, or a multiple of it."""
_INTERFACE = 1
"""Of the compiled functions: another one is of another version of convolutions.c."""
_Steps = ctypes.c_long * 4


def is_available() -> bool:
    """Whether the functions here are compiled, and for this processor."""
    return _library() is not None


def fits(images: Tensor, weight: Tensor, transposed: bool) -> bool:
    """Whether the functions here take these images (B, C, H, W) and weights, and are worth it.

    They run in the calling thread: where torch has several for an operation, its own convolutions are as fast. What no
    convolution takes does not fit either: torch says what is wrong with it.
    """
    if not is_available() or torch.get_num_threads() > 1 or not images.numel():
        return False
    if any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in (images, weight)):
        return False
    (num_coarse, num_fine), (height, width) = weight.shape[:2], images.shape[2:]
    if images.shape[1] != (num_coarse if transposed else num_fine):
        return False
    if not transposed:
        if height % 2 or width % 2:
            return False
        height, width = height // 2, width // 2
    if num_fine in _PICTURE_CHANNELS:
        return num_coarse % _CHANNELS == 0 and width % 8 == 0
    return num_coarse % _CHANNELS == num_fine % _CHANNELS == height % 2 == width % 2 == 0


def convolution(images: Tensor, weight: Tensor, bias: Tensor | None = None, rectify: bool = False) -> Tensor:
    """As torch.conv2d with kernel 4, stride 2, padding 1: (B, C_in, 2H, 2W) → (B, C_out, H, W).

    Args: weight (C_out, C_in, 4, 4); bias (C_out,); rectify: a ReLU behind it.
    """
    num, num_fine, height, width = images.shape
    num_coarse = len(weight)
    images = _ordered(images)
    output = images.new_empty(num, height // 2, width // 2, num_coarse)
    shape = (*output.shape[:3], num_fine, num_coarse)
    _run("coarser", shape, images, weight, _Steps(*weight.stride()), _dense(bias), rectify, output)
    return output.permute(0, 3, 1, 2)


def transposed_convolution(images: Tensor, weight: Tensor, bias: Tensor | None = None, rectify: bool = False) -> Tensor:
    """As torch.conv_transpose2d with kernel 4, stride 2, padding 1: (B, C_in, H, W) → (B, C_out, 2H, 2W).

    Args: weight (C_in, C_out, 4, 4); bias (C_out,); rectify: a ReLU behind it.
    """
    num, num_coarse, height, width = images.shape
    num_fine = weight.shape[1]
    images = _ordered(images)
    output = images.new_empty(num, 2 * height, 2 * width, num_fine)
    shape = (num, height, width, num_fine, num_coarse)
    _run("finer", shape, images, weight, _Steps(*weight.stride()), _dense(bias), rectify, output)
    return output.permute(0, 3, 1, 2)


def weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    """Gradient of the weights of a convolution, or of a transposed one.

    Args: gradient, of the layer's output; images, its input; weight, for its shape and its layout in memory.
    """
    fine, coarse = (gradient, images) if transposed else (images, gradient)
    num, num_coarse, height, width = coarse.shape
    gradient = torch.empty_like(weight)
    shape = (num, height, width, fine.shape[1], num_coarse)
    _run("weight_gradient", shape, _ordered(fine), _ordered(coarse), gradient, _Steps(*gradient.stride()))
    return gradient


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled functions; None where there are none, or none for this processor."""
    spec = find_spec("models._convolutions")
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
        if library.convolutions_interface() != _INTERFACE:
            return None
    except (OSError, AttributeError) as error:  # Half a file, or one of another machine or version.
        log.warning("torch's convolutions are used, since those compiled do not load: %s", error)
        return None
    pointers, sizes = (ctypes.c_void_p,) * 5, (ctypes.c_long,) * 5
    library.coarser.argtypes = (*pointers[:4], ctypes.c_int, *pointers[:2], *sizes)
    library.finer.argtypes = library.coarser.argtypes
    library.weight_gradient.argtypes = (*pointers, *sizes)
    library.scratch_size.argtypes, library.scratch_size.restype = sizes, ctypes.c_long
    return library


def _run(name: str, shape: tuple[int, ...], *arguments: Any) -> None:
    """Calls a function with its arguments, memory to work in, and the shape: B, H, W of the coarse map, C_f, C_c."""
    library = _library()
    assert library is not None
    scratch = torch.empty(library.scratch_size(*shape), dtype=torch.float32, device="cpu")
    given = [a.data_ptr() if isinstance(a, Tensor) else a for a in (*arguments, scratch)]
    getattr(library, name)(*given, *shape)


def _dense(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()


def _ordered(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
