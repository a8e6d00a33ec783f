"""A network's weights in the order in which the page's kernel reads them (app/web/js/decoder/kernel.c); free of torch.

The result is a safetensors file, whose metadata has one entry, `page`, in JSON: `network`, the NetworkConfig; `layers`,
a list of `{"part", "kind", "inputs", "outputs", "rectify"}` in the order of computation, where `kind` is `linear`,
`convolution` or `transposed`; and `about`, further facts. The tensors of layer i are `i.weight` and `i.bias`:

- linear: (inputs, outputs)
- convolution, kernel 4, stride 2, padding 1: (4, 4, inputs, outputs), taps down and across first
- transposed convolution: (2, 2, 2, 2, inputs, outputs): parity of the output's row and column, then taps

Outputs are padded with zeros to a multiple of 4. Pictures are channels last, so the linear layers beside the
convolutions count rows, columns, channels.
"""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from models.config import NetworkConfig

Part = Literal["decoder", "encoder"]
Array = NDArray[np.float32]

DECODER_FILE = "decoder.safetensors"
"""Name of the newest decoder in the folder of a run."""
SMALLEST_PICTURE = 4
"""Height and width between the linear layers and the convolutions."""
_VECTOR = 4
_TAPS = ((3, 1), (2, 0))
"""Rows of a transposed kernel that meet an output of even and of odd row, from the upper input to the lower."""


def read_tensors(weights: bytes) -> dict[str, Array]:
    """Returns the arrays of model.safetensors by name.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return safetensors.numpy.load(weights)
    except SafetensorError as error:
        raise ValueError(f"The weights are damaged: {error}") from error


def web_weights(
    tensors: dict[str, Array],
    network: NetworkConfig,
    parts: tuple[Part, ...] = ("decoder",),
    *,
    half: bool = True,
    about: dict[str, object] | None = None,
) -> bytes:
    """Returns the weights for the page.

    Args:
        tensors: The network's state by name, float32.
        network: The network's shape.
        parts: The parts that the page needs.
        half: Whether float16 suffices; weights beyond its range stay float32 all the same.
        about: Further facts for the metadata.

    Returns:
        The safetensors file that this module describes.

    Raises:
        ValueError: The tensors are not those of a network.
    """
    try:
        layers = [layer for part in parts for layer in _layers(part, tensors)]
    except (KeyError, IndexError, StopIteration, ValueError) as error:
        raise ValueError(f"The weights do not belong to this network: {error}") from error
    largest = max(float(np.abs(array).max(initial=0)) for layer in layers for array in (layer.weight, layer.bias))
    dtype = np.float16 if half and largest <= float(np.finfo(np.float16).max) else np.float32
    arrays = {}
    for i, layer in enumerate(layers):
        arrays[f"{i}.weight"] = np.ascontiguousarray(layer.weight, dtype)
        arrays[f"{i}.bias"] = np.ascontiguousarray(layer.bias, dtype)
    described = [layer.described() for layer in layers]
    content = {"network": network.model_dump(), "layers": described, "about": about or {}}
    # The format keeps several entries in an order that changes, and with it the bytes.
    return safetensors.numpy.save(arrays, {"page": json.dumps(content)})


@dataclass(frozen=True)
class _Layer:
    """One layer in the kernel's order: weight (…, inputs, outputs), bias (outputs)."""

    part: Part
    kind: str
    weight: Array
    bias: Array
    rectify: bool

    def described(self) -> dict[str, object]:
        inputs, outputs = self.weight.shape[-2:]
        return {
            "part": self.part,
            "kind": self.kind,
            "inputs": inputs,
            "outputs": outputs,
            "rectify": self.rectify,
        }


def _layers(part: Part, tensors: dict[str, Array]) -> list[_Layer]:
    prefix = f"{part}.body."
    numbers = sorted({int(name.removeprefix(prefix).split(".")[0]) for name in tensors if name.startswith(prefix)})
    pairs = [(tensors[f"{prefix}{n}.weight"], tensors[f"{prefix}{n}.bias"]) for n in numbers]
    if part == "decoder":
        last_linear = sum(weight.ndim == 2 for weight, _ in pairs) - 1
        weight, bias = pairs[last_linear]
        pairs[last_linear] = _channels_last(weight), _channels_last(bias)
    else:
        first_linear = next(i for i, (weight, _) in enumerate(pairs) if weight.ndim == 2)
        weight, bias = pairs[first_linear]
        pairs[first_linear] = _channels_last(weight.T).T, bias
        pairs.append(_heads(tensors))
    last = len(pairs) - 1
    return [_layer(part, weight, bias, rectify=i < last) for i, (weight, bias) in enumerate(pairs)]


def _heads(tensors: dict[str, Array]) -> tuple[Array, Array]:
    """Returns the encoder's last layers as one, whose outputs are the means and then the log-variances, or the logits.

    The logits of categorical latents are K of each dimension, one dimension after the other.
    """
    names = ("encoder.logits",) if "encoder.logits.weight" in tensors else ("encoder.mean", "encoder.log_variance")
    weight = np.concatenate([tensors[f"{name}.weight"] for name in names])
    return weight, np.concatenate([tensors[f"{name}.bias"] for name in names])


def _channels_last(array: Array) -> Array:
    """Returns an array whose first axis, which counts channels, rows and columns, counts rows, columns and channels."""
    side = SMALLEST_PICTURE
    pictures = array.reshape(-1, side, side, *array.shape[1:])
    return np.moveaxis(pictures, 0, 2).reshape(array.shape)


def _layer(part: Part, weight: Array, bias: Array, rectify: bool) -> _Layer:
    if weight.ndim == 2:
        kind, ordered = "linear", weight.T
    elif part == "encoder":
        kind, ordered = "convolution", weight.transpose(2, 3, 1, 0)
    else:
        kind, ordered = "transposed", np.stack([np.stack([_taps(weight, r, c) for c in _TAPS]) for r in _TAPS])
    missing = -ordered.shape[-1] % _VECTOR
    ordered = np.pad(ordered, [(0, 0)] * (ordered.ndim - 1) + [(0, missing)])
    return _Layer(part, kind, ordered, np.pad(bias, (0, missing)), rectify)


def _taps(weight: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """Returns the taps of one parity, (2, 2, inputs, outputs), of a transposed kernel (inputs, outputs, 4, 4)."""
    return weight[:, :, rows][:, :, :, columns].transpose(2, 3, 0, 1)
