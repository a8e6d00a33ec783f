"""Imports models that were trained elsewhere: our own bundles, and the checkpoints of two public code bases.

Foreign tensors are checked (names, shapes, types, finiteness) against the layout that the code base publishes, and are
renamed to those of our networks; a file that does not match is refused with a reason.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.bundles import (
    MAX_BUNDLE_BYTES,
    MAX_WEIGHTS_BYTES,
    ImportRefused,
    read_bundle,
    read_description,
    read_json_object,
)
from models.config import ConfigError, NetworkConfig
from models.files import network_from_weights, save_model
from models.info import ModelInfo, Preprocessing, validate_name
from models.networks import VAE
from models.torch_files import is_torch_file, read_torch_file

FORMATS = {
    "auto": "The format is recognised by the file's content.",
    "bundle": "Our own zip of model.safetensors and model.json.",
    "safetensors": "A model.safetensors, with its model.json as the spec.",
    "disentangling-vae": "YannDubs/disentangling-vae: model.pt, optionally with its specs.json as the spec.",
    "1konny": "1Konny/Beta-VAE: a checkpoint, or the `net` state dict, of model B or H.",
}
"""Formats that `import_model` reads, each with a description."""

_MAX_SPEC_BYTES = 64 * 1024
_State = dict[str, Tensor]
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and trainers put before the names of a network's tensors."""


def import_model(
    target: Path, file: Path | bytes, *, spec: bytes | None = None, name: str = "", format: str = "auto"
) -> ModelInfo:
    """Converts a file to a model's folder (model.safetensors, model.json).

    Args:
        target: The folder to write.
        file: A path, or the file's bytes.
        spec: The description beside the file, where the format has one.
        name: The model's name, instead of the one in the file.
        format: A key of FORMATS.

    Returns:
        The description as written. KL, losses and the aggregate posterior are empty for foreign checkpoints.

    Raises:
        ImportRefused: The code is one of unknown_format, too_large, not_a_bundle, not_a_checkpoint, unsafe_pickle,
            invalid_description, spec_missing, spec_mismatch, unsupported_architecture and wrong_tensors.
        ConfigError: The name is not allowed.
    """
    if format not in FORMATS:
        raise ImportRefused("unknown_format", f"format must be one of {', '.join(FORMATS)}, not {format[:40]!r}")
    if name:
        name = validate_name(name)
    data = file if isinstance(file, bytes) else _read(file)
    network, info = _convert(data, spec, format)
    info = replace(info, name=name or _valid_or(info.name, "imported model"))
    return save_model(target, network, info)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BUNDLE_BYTES + 1)
    if len(data) > MAX_BUNDLE_BYTES:
        raise ImportRefused("too_large", f"the file is larger than {MAX_BUNDLE_BYTES} bytes")
    return data


def _convert(data: bytes, spec: bytes | None, format: str) -> tuple[VAE, ModelInfo]:
    if format == "auto":
        format = _recognise(data)
    if format == "bundle":
        weights, info = read_bundle(data)
        return _own_network(weights, info), info
    if format == "safetensors":
        if spec is None:
            raise ImportRefused("spec_missing", "safetensors contain no description: send model.json as the spec")
        return _own_network(data, info := read_description(spec)), info
    state = _state_dict(read_torch_file(data))
    if format == "auto-torch":
        format = "disentangling-vae" if "encoder.mu_logvar_gen.weight" in state else "1konny"
    if format == "disentangling-vae":
        return _from_disentangling_vae(state, spec)
    return _from_1konny(state)


def _recognise(data: bytes) -> str:
    if is_torch_file(data):
        return "auto-torch"
    if data.startswith(b"PK\x03\x04"):
        return "bundle"
    # A safetensors file begins with the length of its JSON header.
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return "safetensors"
    raise ImportRefused(
        "unknown_format", "the file is neither a bundle (zip), nor safetensors, nor a checkpoint that torch has saved"
    )


def _own_network(weights: bytes, info: ModelInfo) -> VAE:
    if len(weights) > MAX_WEIGHTS_BYTES:
        raise ImportRefused("too_large", f"the weights have {len(weights)} bytes, the limit is {MAX_WEIGHTS_BYTES}")
    if info.weights_sha256 not in ("", hashlib.sha256(weights).hexdigest()):
        raise ImportRefused("wrong_tensors", "model.safetensors is not the file that model.json describes")
    try:
        return network_from_weights(weights, info)
    except ValueError as error:
        raise ImportRefused("wrong_tensors", str(error)) from error


def _state_dict(loaded: Any) -> _State:
    """Returns the tensors of a checkpoint by name.

    The prefix that a wrapper puts before all names is taken off, and tensors of half precision become float32.

    Args:
        loaded: A state dict, or a dict that holds one under net_states, model_states, net or state_dict.

    Raises:
        ImportRefused: The code is not_a_checkpoint.
    """
    for _ in range(3):
        if not isinstance(loaded, dict):
            break
        inner = next((key for key in ("net_states", "model_states", "net", "state_dict") if key in loaded), None)
        if inner is None:
            break
        loaded = loaded[inner]
    if not isinstance(loaded, dict) or not loaded:
        raise ImportRefused("not_a_checkpoint", "the file does not contain a state dict")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ImportRefused("not_a_checkpoint", "the file does not contain a state dict of tensors by name")
    names = list(loaded)
    while prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in names)), None):
        names = [name.removeprefix(prefix) for name in names]
    halves = (torch.float16, torch.bfloat16)
    tensors = (tensor.float() if tensor.dtype in halves else tensor for tensor in loaded.values())
    return dict(zip(names, tensors, strict=True))


# The two code bases


@dataclass(frozen=True)
class _Layout:
    """Names of a foreign network's layers, in the order of ours.

    Attributes:
        config: The network in our terms.
        encoder: Names of the encoder's layers before the head.
        head: Name of the layer that returns mean and log-variance.
        decoder: Names of the decoder's layers.
        interleaved: Whether the head's rows alternate between mean and log-variance; otherwise the means come first.
        corner: The two layers that are 4×4 convolutions without padding where ours are linear.
    """

    config: NetworkConfig
    encoder: list[str]
    head: str
    decoder: list[str]
    interleaved: bool
    corner: tuple[str, str] | None = None


def _from_disentangling_vae(state: _State, spec: bytes | None) -> tuple[VAE, ModelInfo]:
    specs = {} if spec is None else read_json_object(spec, "specs.json", _MAX_SPEC_BYTES)
    if str(specs.get("model_type", "Burgess")).lower() != "burgess":
        raise ImportRefused("unsupported_architecture", f"model_type {str(specs['model_type'])[:40]!r} is not Burgess")
    at_64 = "encoder.conv_64.weight" in state
    config = _config("burgess", 64 if at_64 else 32, state, "encoder.conv1", "encoder.mu_logvar_gen")
    for key, found in (
        ("img_size", [config.num_channels, config.image_size, config.image_size]),
        ("latent_dim", config.latent_dim),
    ):
        if key in specs and specs[key] != found:
            raise ImportRefused("spec_mismatch", f"specs.json has {key} {str(specs[key])[:60]}, the tensors {found}")
    layout = _Layout(
        config,
        # At 64 px conv_64 is the encoder's last convolution and convT_64 the decoder's first, in whatever order the
        # file lists them.
        encoder=[f"encoder.{name}" for name in ("conv1", "conv2", "conv3", *["conv_64"] * at_64, "lin1", "lin2")],
        head="encoder.mu_logvar_gen",
        decoder=[
            f"decoder.{name}" for name in ("lin1", "lin2", "lin3", *["convT_64"] * at_64, "convT1", "convT2", "convT3")
        ],
        interleaved=True,
    )
    dataset = specs.get("dataset") if isinstance(specs.get("dataset"), str) else ""
    loss = specs.get("loss") if isinstance(specs.get("loss"), str) else ""
    info = ModelInfo(
        name=str(specs.get("name") or "disentangling-vae"),
        network=config,
        preprocessing=_preprocessing(
            config, crop_size=400 if dataset == "chairs" else None, squash=dataset == "celeba"
        ),
        # The third likelihood of that code base, laplace, has the same pixel means; the loss that we report then
        # differs from the training loss.
        likelihood="gaussian" if specs.get("rec_dist") == "gaussian" else "bernoulli",
        dataset=_dataset(str(dataset)),
        licence="MIT (the code; see the source for the weights)",
        source="YannDubs/disentangling-vae" + (f", objective {str(loss)[:40]}" if loss else ""),
    )
    return _load(layout, state), info


def _from_1konny(state: _State) -> tuple[VAE, ModelInfo]:
    if "encoder.13.weight" in state:
        model = "B"
        config = _config("burgess", 64, state, "encoder.0", "encoder.13")
        encoder, head, decoder, corner = [0, 2, 4, 6, 9, 11], 13, [0, 2, 4, 7, 9, 11, 13], None
    elif "encoder.11.weight" in state:
        model = "H"
        config = _config("higgins", 64, state, "encoder.0", "encoder.11")
        encoder, head, decoder, corner = [0, 2, 4, 6, 8], 11, [0, 3, 5, 7, 9, 11], ("encoder.8", "decoder.3")
    else:
        raise ImportRefused(
            "unsupported_architecture",
            "the tensors are neither those of disentangling-vae (encoder.mu_logvar_gen) nor of 1Konny/Beta-VAE's "
            "models B (encoder.13) or H (encoder.11)",
        )
    layout = _Layout(
        config,
        encoder=[f"encoder.{index}" for index in encoder],
        head=f"encoder.{head}",
        decoder=[f"decoder.{index}" for index in decoder],
        interleaved=False,
        corner=corner,
    )
    info = ModelInfo(
        name=f"Beta-VAE {model}",
        network=config,
        # That code base trains on dSprites with a Bernoulli likelihood, and on squashed colour pictures with a Gaussian
        # likelihood.
        preprocessing=_preprocessing(config, squash=config.num_channels == 3),
        likelihood="bernoulli" if config.num_channels == 1 else "gaussian",
        dataset=_dataset("dsprites" if config.num_channels == 1 else ""),
        licence="MIT (the code; see the source for the weights)",
        source=f"1Konny/Beta-VAE, model {model}",
    )
    return _load(layout, state), info


def _config(architecture: str, image_size: int, state: _State, first: str, head: str) -> NetworkConfig:
    """Derives the network's sizes from the shapes of its first convolution and its head."""
    weight, bias = state.get(f"{first}.weight"), state.get(f"{head}.bias")
    if weight is None or bias is None or weight.ndim != 4 or bias.ndim != 1 or bias.shape[0] % 2:
        raise ImportRefused("wrong_tensors", f"{first}.weight or {head}.bias is missing or misshapen")
    try:
        return NetworkConfig(
            architecture=architecture,
            image_size=image_size,
            num_channels=weight.shape[1],
            latent_dim=bias.shape[0] // 2,
        )
    except ConfigError as error:
        raise ImportRefused("unsupported_architecture", str(error)) from error


def _preprocessing(config: NetworkConfig, *, crop_size: int | None = None, squash: bool = False) -> Preprocessing:
    return Preprocessing(
        image_size=config.image_size,
        num_channels=config.num_channels,
        crop="none" if squash else "center",
        crop_size=crop_size,
    )


def _dataset(name: str) -> dict[str, Any]:
    """Returns a data set's description, with an id only for the set that we have as well.

    The id allows evaluating the model without naming its data set.
    """
    if not name:
        return {}
    return {"id": "dsprites", "name": "dsprites"} if name == "dsprites" else {"name": name[:60]}


# From foreign tensors to ours


def _load(layout: _Layout, state: _State) -> VAE:
    """Returns our network with the foreign weights.

    Raises:
        ImportRefused: The code is wrong_tensors.
    """
    network = VAE(layout.config)
    expected = _expected_shapes(layout, network)
    _check(state, expected)
    D = layout.config.latent_dim
    means = slice(0, None, 2) if layout.interleaved else slice(0, D)
    log_variances = slice(1, None, 2) if layout.interleaved else slice(D, None)
    ours: _State = {}
    for kind in ("weight", "bias"):
        head = state[f"{layout.head}.{kind}"]
        ours[f"encoder.mean.{kind}"] = head[means]
        ours[f"encoder.log_variance.{kind}"] = head[log_variances]
    for part, names in (("encoder", layout.encoder), ("decoder", layout.decoder)):
        for our_name, name in zip(_layer_names(network, part), names, strict=True):
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            if layout.corner is not None and name in layout.corner:
                weight, bias = _as_linear(weight, bias, transposed=name == layout.corner[1])
            ours[f"{our_name}.weight"], ours[f"{our_name}.bias"] = weight, bias
    network.load_state_dict({name: tensor.detach().clone().contiguous() for name, tensor in ours.items()})
    return network.eval()


def _layer_names(network: VAE, part: str) -> list[str]:
    """Returns the names of a body's layers that have weights, in order."""
    body = network.get_submodule(f"{part}.body")
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    return [f"{part}.body.{name}" for name, layer in body.named_children() if isinstance(layer, kinds)]


def _as_linear(weight: Tensor, bias: Tensor, *, transposed: bool) -> tuple[Tensor, Tensor]:
    """Converts a 4×4 convolution without padding to the equivalent linear layer on a 4×4 map.

    Args:
        weight: (out, in, 4, 4) for a convolution that maps 4×4 to 1×1; (in, out, 4, 4) for a transposed one that maps
            1×1 to 4×4.
        bias: (out,).
        transposed: Whether the convolution is transposed.

    Returns:
        Weight and bias of the linear layer.
    """
    if not transposed:
        return weight.reshape(weight.shape[0], -1), bias
    return weight.reshape(weight.shape[0], -1).T, bias.repeat_interleave(math.prod(weight.shape[2:]))


def _expected_shapes(layout: _Layout, network: VAE) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all foreign tensors by name."""
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    hidden = ours["encoder.mean.weight"][1]
    shapes = {
        f"{layout.head}.weight": (2 * layout.config.latent_dim, hidden),
        f"{layout.head}.bias": (2 * layout.config.latent_dim,),
    }
    for part, names in (("encoder", layout.encoder), ("decoder", layout.decoder)):
        for our_name, name in zip(_layer_names(network, part), names, strict=True):
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = ours[f"{our_name}.weight"], ours[f"{our_name}.bias"]
            if layout.corner is not None and name in layout.corner:
                channels = max(ours[f"{our_name}.weight"]) // 16
                shapes[f"{name}.weight"] = (hidden, channels, 4, 4)
                shapes[f"{name}.bias"] = (hidden,) if name == layout.corner[0] else (channels,)
    return shapes


def _check(state: _State, expected: dict[str, tuple[int, ...]]) -> None:
    """Checks names, shapes, types and finiteness of the foreign tensors.

    Raises:
        ImportRefused: The code is wrong_tensors.
    """
    for text, names in (
        ("is missing", expected.keys() - state.keys()),
        ("is not part of the network", state.keys() - expected.keys()),
    ):
        if names:
            first = min(names)[:80]
            raise ImportRefused("wrong_tensors", f"{first} {text} ({len(names)} such tensors)")
    for name, shape in expected.items():
        tensor = state[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32 or tensor.layout != torch.strided:
            raise ImportRefused(
                "wrong_tensors", f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not torch.float32 {shape}"
            )
        if not torch.isfinite(tensor).all():
            raise ImportRefused("wrong_tensors", f"{name} holds values that are not finite")


def _valid_or(name: str, default: str) -> str:
    try:
        return validate_name(name[:100])
    except ConfigError:
        return default
