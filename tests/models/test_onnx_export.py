"""ONNX graphs equal torch for any batch, and describe their inputs."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch

from models.config import NetworkConfig
from models.files import LoadedModel, save_model
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from models.onnx_export import export_onnx, export_onnx_folder


def make_model(architecture: str, image_size: int, num_channels: int) -> LoadedModel:
    config = NetworkConfig(architecture=architecture, image_size=image_size, num_channels=num_channels, latent_dim=5)
    torch.manual_seed(0)
    network = VAE(config).eval()
    preprocessing = Preprocessing(image_size=image_size, num_channels=num_channels, crop="none")
    return LoadedModel(network, ModelInfo(name="m", network=config, preprocessing=preprocessing, licence="MIT"))


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("architecture", ["burgess", "higgins"])
@pytest.mark.parametrize(("image_size", "num_channels"), [(32, 1), (64, 3), (128, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_both_graphs_agree_with_torch(architecture: str, image_size: int, num_channels: int, batch: int) -> None:
    model = make_model(architecture, image_size, num_channels)
    files = export_onnx(model)
    g = torch.Generator().manual_seed(1)
    images = torch.rand(batch, num_channels, image_size, image_size, generator=g)
    latents = 3 * torch.randn(batch, 5, generator=g)

    mean, log_variance = session(files["encoder.onnx"]).run(["mean", "log_variance"], {"images": images.numpy()})
    (pixels,) = session(files["decoder.onnx"]).run(["images"], {"latents": latents.numpy()})

    with torch.inference_mode():
        expected = (*model.network.encode(images), model.network.decode(latents))
    for found, wanted in zip((mean, log_variance, pixels), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=0)


def test_the_graphs_have_licence_and_preprocessing() -> None:
    data = export_onnx(make_model("burgess", 32, 3))["encoder.onnx"]
    metadata = session(data).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["preprocessing"])["crop"] == "none"
    assert metadata["licence"] == "MIT"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = make_model("higgins", 32, 1)
    save_model(tmp_path, model.network, model.info)
    assert export_onnx_folder(tmp_path) == export_onnx_folder(tmp_path)
