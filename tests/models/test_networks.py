"""Shapes of the networks, and model files that are read as they were written."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.training_speed import PlainVAE
from models.config import ConfigError, NetworkConfig
from models.convolutions import loader as convolutions
from models.files import load_model, save_model
from models.info import ModelInfo, Preprocessing, read_info, validate_name, write_info
from models.networks import VAE
from training.objectives.losses import kl_per_dimension, reconstruction_loss


@pytest.mark.parametrize("architecture", ["burgess", "higgins"])
@pytest.mark.parametrize("image_size", [32, 64, 128])
@pytest.mark.parametrize(("num_channels", "latent_dim"), [(1, 10), (3, 1), (3, 33)])
def test_a_network_maps_images_to_latents_and_back(
    architecture: str, image_size: int, num_channels: int, latent_dim: int
) -> None:
    config = NetworkConfig(
        architecture=architecture, image_size=image_size, num_channels=num_channels, latent_dim=latent_dim
    )
    network = VAE(config)
    images = torch.rand(2, num_channels, image_size, image_size)
    mean, log_variance = network.encode(images)
    assert mean.shape == log_variance.shape == (2, latent_dim)
    decoded = network.decode(mean)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_burgess_at_64_px_has_the_published_layers() -> None:
    network = VAE(NetworkConfig())
    shapes = [tuple(p.shape) for name, p in network.encoder.named_parameters() if name.endswith("weight")]
    assert shapes == [
        (32, 1, 4, 4), (32, 32, 4, 4), (32, 32, 4, 4), (32, 32, 4, 4), (256, 512), (256, 256), (10, 256), (10, 256),
    ]  # fmt: skip


def test_the_noise_decides_the_sample() -> None:
    network = VAE(NetworkConfig(latent_dim=3))
    images = torch.rand(2, 1, 64, 64)
    mean, _ = network.encode(images)
    logits, _, _ = network(images, torch.zeros(2, 3))
    torch.testing.assert_close(logits, network.decoder(mean))


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", 48), ("num_channels", 2), ("latent_dim", 0), ("latent_dim", 2.5), ("architecture", "resnet")],
)
def test_an_impossible_network_is_refused_by_its_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        NetworkConfig(**{field: value})
    assert caught.value.field == field


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, VAE]:
    config = NetworkConfig(image_size=32, latent_dim=4)
    network = VAE(config)
    info = ModelInfo(
        name="small", network=config, preprocessing=Preprocessing(image_size=32), kl_per_dimension=[1, 0, 2, 0.01]
    )
    save_model(tmp_path / "m", network, info)
    return tmp_path / "m", network


def test_a_saved_model_comes_back_with_equal_weights(saved: tuple[Path, VAE]) -> None:
    folder, network = saved
    loaded = load_model(folder)
    assert not loaded.network.training
    assert loaded.info.active_dimensions == [0, 2]
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)


def test_a_changed_byte_of_the_weights_is_noticed(saved: tuple[Path, VAE]) -> None:
    path = saved[0] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not the file"):
        load_model(saved[0])


def test_weights_of_another_network_are_refused(saved: tuple[Path, VAE]) -> None:
    folder, _ = saved
    write_info(folder, replace(read_info(folder), network=NetworkConfig(image_size=64, latent_dim=4)))
    with pytest.raises(ValueError, match="tensors"):
        load_model(folder)


def test_a_model_json_of_the_wrong_length_is_refused(saved: tuple[Path, VAE]) -> None:
    folder, _ = saved
    write_info(folder, replace(read_info(folder), kl_per_dimension=[1.0]))
    with pytest.raises(ValueError, match="kl_per_dimension"):
        read_info(folder)


@pytest.mark.parametrize("name", ["", "  ", "../x", "a" * 101, "a\nb", "<b>"])
def test_unusual_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        validate_name(name)


@pytest.mark.parametrize("architecture", ["burgess", "higgins"])
@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("level", [*convolutions.available_levels(), None])
def test_a_step_has_the_losses_and_gradients_of_torchs_own_layers(
    architecture: str,
    num_channels: int,
    memory_format: torch.memory_format,
    level: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolutions, "_chosen", level)
    runs: list[str] = []
    run = convolutions._run

    def noted(name: str, *arguments: Any) -> None:
        runs.append(name)
        run(name, *arguments)

    monkeypatch.setattr(convolutions, "_run", noted)
    torch.manual_seed(0)
    ours = VAE(NetworkConfig(architecture=architecture, image_size=32, num_channels=num_channels))
    plain = PlainVAE(ours)
    images = torch.rand(8, num_channels, 32, 32).to(memory_format=memory_format)
    noise = torch.randn(8, 10)
    losses, kinds = [], []
    network: nn.Module
    for network in (ours, plain):
        network.to(memory_format=memory_format)
        logits, mean, log_variance = network(images, noise)
        kl = kl_per_dimension(mean, log_variance).sum()
        loss = reconstruction_loss(logits, images, "bernoulli") + 4 * kl
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        kinds.append(type(logits.grad_fn).__name__)
    assert kinds == ["_StackBackward", "ConvolutionBackward0"], "one of each"
    # There are three layers of each kind, forward and backward, without the gradient of the images.
    once = {"coarser": 6, "finer": 5, "weight_gradient": 6}
    assert Counter(runs) == (once if level else {})
    torch.testing.assert_close(losses[0], losses[1])
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-4), name
