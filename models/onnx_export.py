"""Exports a model as two ONNX graphs, encoder and decoder, for every runtime that reads ONNX.

The graphs are written node by node: the networks consist of a few standard operators, so no tracer is needed, and the
same model gives the same bytes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.files import LoadedModel, load_model
from models.info import ModelInfo
from models.networks import VAE
from models.posteriors import LEAST_VARIANCE

OPSET = 17
"""Version of the operators, which onnxruntime 1.12 (2022) and later read."""
_IR_VERSION = 8
ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"


def export_onnx(model: LoadedModel) -> dict[str, bytes]:
    """Returns the two graphs as files: encoder.onnx (images → mean, log_variance) and decoder.onnx (latents → images).

    `images` are float32 (batch, C, H, W) in [0, 1]; `mean`, `log_variance` and `latents` are (batch, D). The decoder
    returns pixel means. The graphs' metadata describe the expected pictures (size, crop) under `preprocessing`.

    Returns:
        Contents by file name.
    """
    network, info = model.network, model.info
    return {
        ENCODER_FILE: _encoder(network, info).SerializeToString(deterministic=True),
        DECODER_FILE: _decoder(network, info).SerializeToString(deterministic=True),
    }


def export_onnx_folder(folder: Path) -> dict[str, bytes]:
    """Returns the two graphs of the model in a folder, by file name.

    Raises:
        ValueError: The model is damaged.
    """
    return export_onnx(load_model(folder))


class _Graph:
    """A chain of nodes, each of which reads the output of the one before."""

    def __init__(self, start: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.at = start

    def add(self, operator: str, name: str, weights: list[str] | None = None, **attributes: Any) -> str:
        output = f"{name}.out"
        self.nodes.append(helper.make_node(operator, [self.at, *(weights or [])], [output], name=name, **attributes))
        self.at = output
        return output

    def constant(self, name: str, values: Any) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def layer(self, name: str, layer: nn.Module) -> None:
        """Adds one layer of a network."""
        match layer:
            case nn.Linear():
                self.add("Gemm", name, self._weights(name, layer), transB=1)
            case nn.Conv2d():
                self.add("Conv", name, self._weights(name, layer), **_window(layer))
            case nn.ConvTranspose2d():
                self.add("ConvTranspose", name, self._weights(name, layer), **_window(layer))
            case nn.ReLU():
                self.add("Relu", name)
            case nn.Flatten():
                self.add("Flatten", name, axis=1)
            case nn.Unflatten():
                shape = helper.make_tensor(f"{name}.shape", TensorProto.INT64, [4], [-1, *layer.unflattened_size])
                self.weights.append(shape)
                self.add("Reshape", name, [shape.name])
            case _:
                raise AssertionError(f"no ONNX for {type(layer).__name__}")

    def _weights(self, name: str, layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> list[str]:
        assert layer.bias is not None
        return [
            self.constant(f"{name}.weight", layer.weight.detach().cpu().contiguous().numpy()),
            self.constant(f"{name}.bias", layer.bias.detach().cpu().numpy()),
        ]


def _window(layer: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, Any]:
    assert not isinstance(layer.padding, str)
    return {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": [*layer.padding, *layer.padding]}


def _encoder(network: VAE, info: ModelInfo) -> onnx.ModelProto:
    graph = _Graph("images")
    for name, layer in network.encoder.body.named_children():
        graph.layer(f"body.{name}", layer)
    if info.network.num_categories is None:
        hidden = graph.at
        for name, layer in (("mean", network.encoder.mean), ("log_variance", network.encoder.log_variance)):
            graph.at = hidden
            graph.layer(f"{name}.linear", layer)
            graph.nodes[-1].output[0] = name
    else:
        graph.layer("logits.linear", network.encoder.logits)
        _moments(graph, info.network.latent_dim, info.network.num_categories)
    D = info.network.latent_dim
    return _model(graph, "encoder", {"images": _image_shape(info)}, {"mean": [D], "log_variance": [D]}, info)


def _moments(graph: _Graph, latent_dim: int, num_categories: int) -> None:
    """Adds mean and log-variance, on the grid from −1 to 1, of the categorical latents whose logits are at the end."""
    grid = np.linspace(-1, 1, num_categories, dtype=np.float32)
    graph.add("Reshape", "logits", [graph.constant("logits.shape", np.array([-1, latent_dim, num_categories]))])
    shares = graph.add("Softmax", "shares", axis=2)
    column = graph.add("MatMul", "column", [graph.constant("grid", grid[:, None])])
    axis = graph.constant("axis", np.array([2]))
    graph.add("Squeeze", "mean", [axis])
    graph.nodes[-1].output[0] = "mean"
    graph.at = "grid.row"
    graph.constant("grid.row", grid)
    graph.add("Sub", "distances", [column])
    graph.add("Mul", "squares", [graph.at])
    graph.add("Mul", "shares.squares", [shares])
    graph.add("ReduceSum", "variance", [axis], keepdims=0)
    graph.add("Max", "least", [graph.constant("least.variance", np.array(LEAST_VARIANCE, np.float32))])
    graph.add("Log", "log_variance")
    graph.nodes[-1].output[0] = "log_variance"


def _decoder(network: VAE, info: ModelInfo) -> onnx.ModelProto:
    graph = _Graph("latents")
    for name, layer in network.decoder.body.named_children():
        graph.layer(f"body.{name}", layer)
    graph.add("Sigmoid", "pixels")
    graph.nodes[-1].output[0] = "images"
    return _model(graph, "decoder", {"latents": [info.network.latent_dim]}, {"images": _image_shape(info)}, info)


def _image_shape(info: ModelInfo) -> list[int]:
    return [info.network.num_channels, info.network.image_size, info.network.image_size]


def _model(
    graph: _Graph, name: str, inputs: dict[str, list[int]], outputs: dict[str, list[int]], info: ModelInfo
) -> onnx.ModelProto:
    """Returns a checked ONNX model.

    Args:
        graph: The nodes and weights.
        name: The graph's name.
        inputs: Shapes by name, without the batch, which may have any size.
        outputs: Shapes by name, without the batch.
        info: The model's description, for the metadata.
    """
    proto = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *shape]) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *shape]) for n, shape in outputs.items()],
        graph.weights,
    )
    model = helper.make_model(
        proto,
        producer_name="betavae",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    description = info.to_json()
    helper.set_model_props(
        model,
        {
            "name": info.name,
            "licence": info.licence,
            "source": info.source,
            "weights_sha256": info.weights_sha256,
            "preprocessing": json.dumps(description["preprocessing"]),
            "network": json.dumps(description["network"]),
        },
    )
    onnx.checker.check_model(model)
    return model
