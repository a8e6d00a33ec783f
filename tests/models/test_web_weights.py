"""The page's order of the weights, read back by the definition of each layer."""

import json
from typing import Any, Literal

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
import torch.nn.functional as F

from models.config import NetworkConfig
from models.networks import VAE
from models.web_weights import read_tensors, web_weights


def _network(architecture: Literal["burgess", "higgins"], num_channels: Literal[1, 3]) -> VAE:
    torch.manual_seed(0)
    return VAE(NetworkConfig(architecture=architecture, image_size=64, num_channels=num_channels, latent_dim=3))


def _tensors(network: VAE) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def _read(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    length = int.from_bytes(data[:8], "little")
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["page"])
    return content["layers"], safetensors.numpy.load(data), content


def _run(data: bytes, numbers: Any) -> Any:
    """Computes the layers as kernel.c describes them: (N) or (rows, columns, channels) in and out."""
    layers, tensors, _ = _read(data)
    for i, layer in enumerate(layers):
        weight, bias = tensors[f"{i}.weight"], tensors[f"{i}.bias"]
        if layer["kind"] == "linear":
            numbers = numbers.reshape(-1) @ weight + bias
        elif layer["kind"] == "transposed":
            numbers = numbers.reshape(4, 4, -1) if numbers.ndim == 1 else numbers
            side = len(numbers)
            padded = np.pad(numbers, ((1, 1), (1, 1), (0, 0)))
            output = np.empty((2 * side, 2 * side, layer["outputs"]), np.float32)
            for row, column, y, x in np.ndindex(2, 2, side, side):
                window = padded[y + row : y + row + 2, x + column : x + column + 2]
                output[2 * y + row, 2 * x + column] = np.tensordot(window, weight[row, column], 3) + bias
            numbers = output
        else:
            side = len(numbers) // 2
            padded = np.pad(numbers, ((1, 1), (1, 1), (0, 0)))
            windows = [[padded[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] for x in range(side)] for y in range(side)]
            numbers = np.tensordot(np.array(windows), weight, 3) + bias
        if layer["rectify"]:
            numbers = np.maximum(numbers, 0)
    return numbers


@pytest.mark.parametrize("architecture", ["burgess", "higgins"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_the_order_computes_what_torch_computes(
    architecture: Literal["burgess", "higgins"], num_channels: Literal[1, 3]
) -> None:
    network = _network(architecture, num_channels)
    z, image = torch.randn(1, 3), torch.rand(1, num_channels, 64, 64)
    with torch.no_grad():
        logits = network.decoder(z)[0].permute(1, 2, 0).numpy()
        posterior = torch.cat(network.encode(image), 1)[0].numpy()
    decoder = web_weights(_tensors(network), network.config, half=False)
    encoder = web_weights(_tensors(network), network.config, ("encoder",), half=False)
    np.testing.assert_allclose(_run(decoder, z[0].numpy())[:, :, :num_channels], logits, atol=1e-5)
    np.testing.assert_allclose(_run(encoder, image[0].permute(1, 2, 0).numpy())[:6], posterior, atol=1e-5)


def test_the_encoder_of_categorical_latents_ends_in_their_logits() -> None:
    torch.manual_seed(0)
    network = VAE(NetworkConfig(image_size=32, latent_dim=3, num_categories=6))
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        (logits,) = network.encoder(image)
    encoder = web_weights(_tensors(network), network.config, ("encoder",), half=False)
    assert _read(encoder)[2]["network"]["num_categories"] == 6
    found = _run(encoder, image[0].permute(1, 2, 0).numpy())[:18]
    np.testing.assert_allclose(found.reshape(3, 6), logits[0], atol=1e-5)


def test_weights_beyond_float16_stay_float32() -> None:
    network = _network("burgess", 1)
    assert _read(web_weights(_tensors(network), network.config))[1]["0.weight"].dtype == np.float16
    with torch.no_grad():
        network.decoder.output.weight.fill_(70_000)
    assert _read(web_weights(_tensors(network), network.config))[1]["0.weight"].dtype == np.float32


def test_the_metadata_names_the_network_and_what_is_said_about_it() -> None:
    network = _network("burgess", 3)
    content = _read(web_weights(_tensors(network), network.config, about={"step": 7}))[2]
    assert content["network"] == network.config.model_dump()
    assert content["about"] == {"step": 7}


def test_equal_weights_give_equal_bytes() -> None:
    network = _network("burgess", 1)
    assert len({web_weights(_tensors(network), network.config) for _ in range(8)}) == 1


def test_damaged_and_foreign_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        read_tensors(b"no weights")
    with pytest.raises(ValueError, match="do not belong"):
        web_weights({"decoder.body.0.weight": np.zeros((256, 3), np.float32)}, _network("burgess", 1).config)


def test_half_precision_moves_no_pixel_by_more_than_one_level() -> None:
    network = _network("burgess", 3)
    z = torch.randn(16, 3)
    with torch.no_grad():
        exact = network.decode(z).permute(0, 2, 3, 1).numpy()
    data = web_weights(_tensors(network), network.config)
    logits = np.stack([_run(data, row.astype(np.float32)) for row in z.numpy()])[..., :3]
    pixels = F.sigmoid(torch.from_numpy(np.ascontiguousarray(logits))).numpy()
    apart = np.abs(np.rint(255 * pixels) - np.rint(255 * exact))
    assert np.mean(apart <= 1) >= 0.999
