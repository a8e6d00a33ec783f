"""Reads and writes trained models as model.safetensors beside model.json; no pickle."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from models.atomic import write_bytes
from models.info import WEIGHTS_FILE, ModelInfo, read_info, write_info
from models.networks import VAE


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode on its device, with its description."""

    network: VAE
    info: ModelInfo


def save_model(folder: Path, network: VAE, info: ModelInfo) -> ModelInfo:
    """Writes a model's folder: the weights first, then model.json, which names the weights' digest.

    Args:
        folder: The model's folder; it is made where it is missing.
        network: The trained network.
        info: The model's description.

    Returns:
        The description as written, with weights_sha256 filled in.
    """
    weights = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    )
    info = replace(info, weights_sha256=hashlib.sha256(weights).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS_FILE, weights)
    write_info(folder, info)
    return info


def load_model(folder: Path, device: str | torch.device = "cpu") -> LoadedModel:
    """Reads a model's folder.

    Args:
        folder: The model's folder.
        device: The device of the network.

    Raises:
        ValueError: One of the two files is missing or damaged, or does not match the other.
    """
    info = read_info(folder)
    try:
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise ValueError(f"{folder.name}: no readable {WEIGHTS_FILE}: {error}") from error
    if hashlib.sha256(weights).hexdigest() != info.weights_sha256:
        raise ValueError(f"{folder.name}: {WEIGHTS_FILE} is not the file that model.json describes")
    return LoadedModel(network_from_weights(weights, info, device), info)


def network_from_weights(weights: bytes, info: ModelInfo, device: str | torch.device = "cpu") -> VAE:
    """Builds a network from safetensors bytes.

    Args:
        weights: The safetensors bytes.
        info: The model's description, which names the architecture.
        device: The device of the network.

    Raises:
        ValueError: Names, shapes or types do not match the architecture, or a value is not finite.
    """
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS_FILE}: {error}") from error
    network = VAE(info.network)
    expected = network.state_dict()
    if tensors.keys() != expected.keys():
        raise ValueError(f"{WEIGHTS_FILE}: the tensors are not those of a {info.network.architecture} network")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != torch.float32:
            raise ValueError(
                f"{WEIGHTS_FILE}: {name} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"not float32 {tuple(expected[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{WEIGHTS_FILE}: {name} holds values that are not finite")
    network.load_state_dict(tensors)
    return network.to(device).eval()
