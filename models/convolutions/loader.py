"""The networks' convolutions (kernel 4, stride 2, padding 1) on a CPU, compiled from the C files beside this one.

Between maps of many channels they need nine sixteenths of the multiplications, by Winograd's minimal filtering (Lavin &
Gray 2016), which no library for CPUs offers for this kernel and stride; from and to pictures they keep the processor as
busy as products of matrices do. They are compiled when the package is installed, if there is a C compiler, for several
levels of instructions; the best level that the processor has is chosen at run time. Every level computes the same bits.
Without a level, torch's convolutions do the same work, and results differ by rounding alone.
"""

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

LEVELS = ("avx512", "avx2", "neon")
"""Every level that kernels.h can be compiled for.

avx2, measured beside torch 2.14 on one thread of an AMD EPYC of Zen 3 for all shapes of the networks (32 images, square
maps of 8 to 64 pixels): 1.2 to 1.9 times as fast from the fine map to the coarse one, 1.3 to 3.7 times back, and 1.4 to
1.9 times for the gradient of the weights; maps of 64 pixels between many channels, which networks for images of 128
pixels have, gain least: 1.1, 1.15 and 1.6 times. 8 images gain as much, but the latter (1.06, 1.1, 1.25 times).
"""
MODULE = "models.convolutions._compiled"
"""The library of the compiled functions. It has the name of an extension module, so that the installation builds it."""
_PICTURE_CHANNELS = (1, 3)
_CHANNELS = 32
"""Every other map has a multiple of so many channels."""
_INTERFACE = 2
"""Number of the compiled functions' interface: another number belongs to another version of convolutions.c."""
_POINTERS, _SIZES = (ctypes.c_void_p,) * 5, (ctypes.c_long,) * 5
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "coarser": (*_POINTERS[:4], ctypes.c_int, *_POINTERS[:2], *_SIZES),
    "finer": (*_POINTERS[:4], ctypes.c_int, *_POINTERS[:2], *_SIZES),
    "weight_gradient": (*_POINTERS, *_SIZES),
    "scratch_size": _SIZES,
}
_Steps = ctypes.c_long * 4
_DETECTED = "detected"
_chosen: str | None = _DETECTED


@cache
def available_levels() -> tuple[str, ...]:
    """Levels that are compiled and that this processor runs, the best first."""
    library = _library()
    if library is None:
        return ()
    library.convolutions_levels.restype = ctypes.c_char_p
    return tuple(library.convolutions_levels().decode().split())


def level() -> str | None:
    """The level in use; None where torch's convolutions do the work."""
    return next(iter(available_levels()), None) if _chosen == _DETECTED else _chosen


@contextmanager
def use_level(name: str | None) -> Iterator[None]:
    """Makes every thread use one level in a with block.

    Args:
        name: one of available_levels(), or None for torch's convolutions.

    Raises:
        ValueError: the level is not compiled, or this processor lacks its instructions.
    """
    global _chosen
    if name is not None and name not in available_levels():
        raise ValueError(f"level {name!r} is not available; available: {', '.join(available_levels()) or 'none'}")
    before, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = before


def describe() -> str:
    """Which convolutions train on this CPU, and what to do where the compiled ones are missing; for a log line."""
    if chosen := level():
        return f"compiled ({chosen})"
    if _library() is not None:
        return "torch's (none is compiled for this processor: AVX-512, AVX2 with FMA, or 64-bit Arm)"
    return (
        "torch's, which are slower (the compiled ones are missing or do not load: install a C compiler, on Debian and "
        "Ubuntu `apt install gcc libc6-dev`, and install betavae again)"
    )


def fits(images: Tensor, weight: Tensor, transposed: bool) -> bool:
    """Whether the functions here take these images and weights, and are faster than torch's.

    They run in the calling thread: where torch has several threads for an operation, its own convolutions are as fast.
    Arguments that no convolution takes do not fit either: torch says what is wrong with them. The rule is the same for
    every level, since each is faster than torch wherever it was measured (see LEVELS).

    Args:
        images: (B, C, H, W).
        weight: (C_out, C_in, 4, 4), or (C_in, C_out, 4, 4) of a transposed convolution.
        transposed: whether the convolution is transposed.
    """
    if level() is None or torch.get_num_threads() > 1 or not images.numel():
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
    """The convolution of torch.conv2d with kernel 4, stride 2 and padding 1.

    Args:
        images: (B, C_in, 2H, 2W).
        weight: (C_out, C_in, 4, 4).
        bias: (C_out,).
        rectify: whether a ReLU follows.

    Returns:
        (B, C_out, H, W), channels last in memory.
    """
    num, num_fine, height, width = images.shape
    num_coarse = len(weight)
    images = _ordered(images)
    output = images.new_empty(num, height // 2, width // 2, num_coarse)
    shape = (*output.shape[:3], num_fine, num_coarse)
    _run("coarser", shape, images, weight, _Steps(*weight.stride()), _dense(bias), rectify, output)
    return output.permute(0, 3, 1, 2)


def transposed_convolution(images: Tensor, weight: Tensor, bias: Tensor | None = None, rectify: bool = False) -> Tensor:
    """The convolution of torch.conv_transpose2d with kernel 4, stride 2 and padding 1.

    Args:
        images: (B, C_in, H, W).
        weight: (C_in, C_out, 4, 4).
        bias: (C_out,).
        rectify: whether a ReLU follows.

    Returns:
        (B, C_out, 2H, 2W), channels last in memory.
    """
    num, num_coarse, height, width = images.shape
    num_fine = weight.shape[1]
    images = _ordered(images)
    output = images.new_empty(num, 2 * height, 2 * width, num_fine)
    shape = (num, height, width, num_fine, num_coarse)
    _run("finer", shape, images, weight, _Steps(*weight.stride()), _dense(bias), rectify, output)
    return output.permute(0, 3, 1, 2)


def weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    """The gradient of the weights of a convolution, or of a transposed one.

    Args:
        gradient: the gradient of the layer's output.
        images: the layer's input.
        weight: the layer's weights; the result has their shape and their layout in memory.
        transposed: whether the layer is a transposed convolution.
    """
    fine, coarse = (gradient, images) if transposed else (images, gradient)
    num, num_coarse, height, width = coarse.shape
    gradient = torch.empty_like(weight)
    shape = (num, height, width, fine.shape[1], num_coarse)
    _run("weight_gradient", shape, _ordered(fine), _ordered(coarse), gradient, _Steps(*gradient.stride()))
    return gradient


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled functions; None where they are not compiled or do not load."""
    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
        if library.convolutions_interface() != _INTERFACE:
            raise OSError(f"{spec.origin} belongs to another version")
    except (OSError, AttributeError) as error:  # Half a file, or a file of another machine or version.
        log.warning("the compiled convolutions do not load: %s", error)
        return None
    return library


@cache
def _function(name: str, level: str) -> Any:
    """A compiled function of a level."""
    function = getattr(_library(), f"{name}_{level}")
    function.argtypes, function.restype = _ARGUMENTS[name], ctypes.c_long if name == "scratch_size" else None
    return function


def _run(name: str, shape: tuple[int, ...], *arguments: Any) -> None:
    """Calls a function of the level in use with its arguments, a work area and the shape.

    Args:
        name: of the function in kernels.h.
        shape: B, H and W of the coarse map, channels of the fine map and of the coarse map.
        arguments: all arguments before the work area.
    """
    chosen = level()
    assert chosen is not None
    scratch = torch.empty(_function("scratch_size", chosen)(*shape), dtype=torch.float32, device="cpu")
    given = [a.data_ptr() if isinstance(a, Tensor) else a for a in (*arguments, scratch)]
    _function(name, chosen)(*given, *shape)


def _dense(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()


def _ordered(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
