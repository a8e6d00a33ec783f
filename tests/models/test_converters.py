"""Foreign checkpoints: every value gets the place where the published network uses it, and nothing else is read."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.bundles import ImportRefused, write_bundle
from models.config import ConfigError, NetworkConfig
from models.converters import import_model
from models.files import load_model, save_model
from models.info import ModelInfo, Preprocessing, read_info
from models.networks import VAE
from training.objectives.losses import kl_per_dimension

State = dict[str, Tensor]


def published_disentangling_vae(size: int, channels: int, latent_dim: int, seed: int = 0) -> State:
    """Returns a state dict as YannDubs/disentangling-vae writes it, in its order."""
    g = torch.Generator().manual_seed(seed)
    at_64 = size == 64

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g) * 0.1

    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1": (32, channels, 4, 4),
        "encoder.conv2": (32, 32, 4, 4),
        "encoder.conv3": (32, 32, 4, 4),
        **({"encoder.conv_64": (32, 32, 4, 4)} if at_64 else {}),
        "encoder.lin1": (256, 512),
        "encoder.lin2": (256, 256),
        "encoder.mu_logvar_gen": (2 * latent_dim, 256),
        "decoder.lin1": (256, latent_dim),
        "decoder.lin2": (256, 256),
        "decoder.lin3": (512, 256),
        **({"decoder.convT_64": (32, 32, 4, 4)} if at_64 else {}),
        "decoder.convT1": (32, 32, 4, 4),
        "decoder.convT2": (32, 32, 4, 4),
        "decoder.convT3": (32, channels, 4, 4),
    }
    state: State = OrderedDict()
    for name, shape in shapes.items():
        state[f"{name}.weight"] = values(*shape)
        state[f"{name}.bias"] = values(shape[1] if "convT" in name else shape[0])
    return state


def run_disentangling_vae(state: State, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean, log-variance and pixels, computed from the state dict as the published modules do."""
    functional, at_64 = nn.functional, "encoder.conv_64.weight" in state

    def layer(call: Callable[..., Tensor], x: Tensor, name: str, **settings: int) -> Tensor:
        return call(x, state[f"{name}.weight"], state[f"{name}.bias"], **settings)

    x = images
    for name in ["conv1", "conv2", "conv3"] + ["conv_64"] * at_64:
        x = torch.relu(layer(functional.conv2d, x, f"encoder.{name}", stride=2, padding=1))
    x = x.flatten(1)
    for name in ["lin1", "lin2"]:
        x = torch.relu(layer(functional.linear, x, f"encoder.{name}"))
    both = layer(functional.linear, x, "encoder.mu_logvar_gen")
    mean, log_variance = both.view(len(images), -1, 2).unbind(-1)
    x = latents
    for name in ["lin1", "lin2", "lin3"]:
        x = torch.relu(layer(functional.linear, x, f"decoder.{name}"))
    x = x.view(-1, 32, 4, 4)
    for name in ["convT_64"] * at_64 + ["convT1", "convT2"]:
        x = torch.relu(layer(functional.conv_transpose2d, x, f"decoder.{name}", stride=2, padding=1))
    return (
        mean,
        log_variance,
        torch.sigmoid(layer(functional.conv_transpose2d, x, "decoder.convT3", stride=2, padding=1)),
    )


class View(nn.Module):
    """The reshaping module between the published layers, which has a number among them."""

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(self.size)


class Published1Konny(nn.Module):
    """Models B and H of 1Konny/Beta-VAE, layer by layer."""

    def __init__(self, model: str, latent_dim: int, channels: int) -> None:
        super().__init__()
        relu, conv, up = nn.ReLU, nn.Conv2d, nn.ConvTranspose2d
        if model == "H":
            self.encoder = nn.Sequential(
                conv(channels, 32, 4, 2, 1), relu(), conv(32, 32, 4, 2, 1), relu(), conv(32, 64, 4, 2, 1), relu(),
                conv(64, 64, 4, 2, 1), relu(), conv(64, 256, 4, 1), relu(), View(-1, 256),
                nn.Linear(256, 2 * latent_dim),
            )  # fmt: skip
            self.decoder = nn.Sequential(
                nn.Linear(latent_dim, 256), View(-1, 256, 1, 1), relu(), up(256, 64, 4), relu(), up(64, 64, 4, 2, 1),
                relu(), up(64, 32, 4, 2, 1), relu(), up(32, 32, 4, 2, 1), relu(), up(32, channels, 4, 2, 1),
            )  # fmt: skip
        else:
            self.encoder = nn.Sequential(
                conv(channels, 32, 4, 2, 1), relu(), conv(32, 32, 4, 2, 1), relu(), conv(32, 32, 4, 2, 1), relu(),
                conv(32, 32, 4, 2, 1), relu(), View(-1, 512), nn.Linear(512, 256), relu(), nn.Linear(256, 256), relu(),
                nn.Linear(256, 2 * latent_dim),
            )  # fmt: skip
            self.decoder = nn.Sequential(
                nn.Linear(latent_dim, 256), relu(), nn.Linear(256, 256), relu(), nn.Linear(256, 512), relu(),
                View(-1, 32, 4, 4), up(32, 32, 4, 2, 1), relu(), up(32, 32, 4, 2, 1), relu(), up(32, 32, 4, 2, 1),
                relu(), up(32, channels, 4, 2, 1),
            )  # fmt: skip


def saved(value: Any, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "channels"), [(64, 1), (64, 3), (32, 1)])
@pytest.mark.parametrize("legacy", [False, True])
def test_disentangling_vae_gives_what_its_own_modules_give(
    tmp_path: Path, size: int, channels: int, legacy: bool
) -> None:
    state = published_disentangling_vae(size, channels, latent_dim=7)
    info = import_model(tmp_path / "m", saved(state, legacy=legacy), name="ours")

    network = load_model(tmp_path / "m").network
    g = torch.Generator().manual_seed(1)
    images, latents = torch.rand(3, channels, size, size, generator=g), torch.randn(3, 7, generator=g)
    expected = run_disentangling_vae(state, images, latents)
    with torch.inference_mode():
        found = (*network.encode(images), network.decode(latents))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert (info.name, info.network.image_size, info.network.num_channels) == ("ours", size, channels)


@pytest.mark.parametrize("model", ["B", "H"])
@pytest.mark.parametrize("channels", [1, 3])
def test_1konny_gives_what_its_own_modules_give(tmp_path: Path, model: str, channels: int) -> None:
    published = Published1Konny(model, 6, channels)
    checkpoint = {
        "iter": 1500,
        "win_states": {"recon": None, "kld": "window_1"},
        "net_states": {"net": published.state_dict()},
        "optim_states": {"optim": torch.optim.Adam(published.parameters()).state_dict()},
    }
    info = import_model(tmp_path / "m", saved(checkpoint, legacy=True))

    network = load_model(tmp_path / "m").network
    g = torch.Generator().manual_seed(1)
    images, latents = torch.rand(3, channels, 64, 64, generator=g), torch.randn(3, 6, generator=g)
    with torch.inference_mode():
        mean, log_variance = published.encoder(images).split(6, dim=1)
        found = (*network.encode(images), network.decode(latents))
        expected = (mean, log_variance, torch.sigmoid(published.decoder(latents)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert info.network.architecture == ("burgess" if model == "B" else "higgins")
    assert info.likelihood == ("bernoulli" if channels == 1 else "gaussian")


def test_a_bare_net_state_dict_and_one_under_net_are_the_same(tmp_path: Path) -> None:
    state = Published1Konny("H", 4, 1).state_dict()
    bare = import_model(tmp_path / "a", saved(state), name="x")
    under_net = import_model(tmp_path / "b", saved({"net": state}), name="x")
    assert bare.weights_sha256 == under_net.weights_sha256


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_the_prefix_of_a_wrapper_is_taken_off(tmp_path: Path, prefix: str) -> None:
    for number, state in enumerate((Published1Konny("H", 4, 1).state_dict(), published_disentangling_vae(64, 1, 5))):
        plain = import_model(tmp_path / f"{number}a", saved(state), name="x")
        wrapped = saved({prefix + name: tensor for name, tensor in state.items()})
        assert import_model(tmp_path / f"{number}b", wrapped, name="x").weights_sha256 == plain.weights_sha256
        some = {prefix * (i % 2) + name: tensor for i, (name, tensor) in enumerate(state.items())}
        with pytest.raises(ImportRefused):
            import_model(tmp_path / f"{number}c", saved(some), name="x")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_of_half_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype, legacy: bool) -> None:
    state = {name: tensor.to(dtype) for name, tensor in published_disentangling_vae(64, 1, 5).items()}
    half = import_model(tmp_path / "a", saved(state, legacy=legacy), name="x")
    whole = import_model(tmp_path / "b", saved({name: tensor.float() for name, tensor in state.items()}), name="x")
    assert half.weights_sha256 == whole.weights_sha256


def test_specs_name_the_model_and_its_pictures(tmp_path: Path) -> None:
    specs = {"name": "betaB_chairs", "dataset": "chairs", "latent_dim": 5, "img_size": [1, 64, 64], "loss": "betaB"}
    state = published_disentangling_vae(64, 1, 5)
    info = import_model(tmp_path / "m", saved(state), spec=json.dumps(specs).encode())
    assert info.name == "betaB_chairs"
    assert info.preprocessing == Preprocessing(image_size=64, num_channels=1, crop_size=400)
    assert read_info(tmp_path / "m") == info


@pytest.mark.parametrize(
    ("specs", "code"),
    [
        ({"latent_dim": 6}, "spec_mismatch"),
        ({"img_size": [3, 64, 64]}, "spec_mismatch"),
        ({"model_type": "Higgins"}, "unsupported_architecture"),
        ([], "invalid_description"),
    ],
)
def test_specs_that_contradict_the_tensors_are_refused(tmp_path: Path, specs: Any, code: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", saved(published_disentangling_vae(64, 1, 5)), spec=json.dumps(specs).encode())
    assert refused.value.code == code


def _without(state: State) -> None:
    del state["decoder.lin2.bias"]


def _extra(state: State) -> None:
    state["discriminator.lin1.weight"] = torch.zeros(2)


def _misshapen(state: State) -> None:
    state["encoder.lin1.weight"] = torch.zeros(256, 511)


def _double(state: State) -> None:
    state["encoder.lin1.weight"] = state["encoder.lin1.weight"].double()


def _infinite(state: State) -> None:
    state["encoder.lin1.weight"][0, 0] = float("inf")


def _odd_head(state: State) -> None:
    state["encoder.mu_logvar_gen.bias"] = torch.zeros(9)


@pytest.mark.parametrize("change", [_without, _extra, _misshapen, _double, _infinite, _odd_head])
def test_tensors_of_another_architecture_are_refused(tmp_path: Path, change: Callable[[State], None]) -> None:
    state = published_disentangling_vae(64, 1, 5)
    change(state)
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", saved(state))
    assert refused.value.code == "wrong_tensors"
    assert not (tmp_path / "m").exists()


class _Runs:
    """An object that would make a folder if it were unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, legacy: bool) -> None:
    state: dict[str, Any] = dict(published_disentangling_vae(64, 1, 5))
    state["x"] = _Runs(tmp_path / "made")
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", saved(state, legacy=legacy))
    assert refused.value.code == "unsafe_pickle"
    assert not (tmp_path / "made").exists()


def test_a_constructor_that_would_take_the_memory_is_refused(tmp_path: Path) -> None:
    # weights_only itself allows bytearray with a length from the file.
    pickled = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R."
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", _torch_zip(pickled))
    assert refused.value.code == "unsafe_pickle"


def test_a_pickle_of_endless_small_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", _torch_zip(b"\x80\x02" + b"}" * 10**6 + b"."))
    assert refused.value.code == "unsafe_pickle"


def test_a_zip_that_grows_when_it_is_unpacked_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", buffer.getvalue(), format="1konny")
    assert refused.value.code == "not_a_checkpoint"


def test_a_storage_that_the_file_does_not_fill_is_refused(tmp_path: Path) -> None:
    data = saved({"a": torch.zeros(4)}, legacy=True)
    # The last of the five pickles lists the storages that follow; an empty list leaves memory as it was.
    at = data.rindex(b"\x80\x02]q\x00X")
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "m", data[:at] + b"\x80\x02]q\x00.")
    assert refused.value.code == "not_a_checkpoint"


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(1000)])
@pytest.mark.parametrize("format", ["auto", "bundle", "safetensors", "disentangling-vae", "1konny"])
def test_a_file_without_a_model_is_refused(tmp_path: Path, data: bytes, format: str) -> None:
    with pytest.raises(ImportRefused):
        import_model(tmp_path / "m", data, format=format, spec=None)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_cut_short_or_damaged_anywhere_is_refused_or_read(tmp_path: Path, legacy: bool) -> None:
    data = saved(published_disentangling_vae(32, 1, 2), legacy=legacy)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, 4000, size=15).tolist():
        for hurt in (data[:at], data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]):
            try:
                import_model(tmp_path / "m", hurt, name="x")
            except ImportRefused:
                continue


def test_bundle_and_safetensors_come_back_as_they_were(tmp_path: Path) -> None:
    config = NetworkConfig(image_size=32, latent_dim=3)
    info = ModelInfo(name="mine", network=config, preprocessing=Preprocessing(image_size=32))
    info = save_model(tmp_path / "a", VAE(config), info)
    write_bundle(tmp_path / "a", tmp_path / "a.zip", card="# mine")

    assert import_model(tmp_path / "b", tmp_path / "a.zip") == info
    weights, spec = (tmp_path / "a/model.safetensors").read_bytes(), (tmp_path / "a/model.json").read_bytes()
    assert import_model(tmp_path / "c", weights, spec=spec, name="other").name == "other"
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "d", weights)
    assert refused.value.code == "spec_missing"


def test_a_bundle_whose_weights_are_another_networks_is_refused(tmp_path: Path) -> None:
    config = NetworkConfig(image_size=32, latent_dim=3)
    save_model(tmp_path, VAE(config), ModelInfo(name="m", network=config, preprocessing=Preprocessing(image_size=32)))
    description = json.loads((tmp_path / "model.json").read_text())
    description["network"]["latent_dim"] = 4
    weights = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ImportRefused) as refused:
        import_model(tmp_path / "x", weights, spec=json.dumps(description).encode())
    assert refused.value.code == "wrong_tensors"


def test_a_bad_name_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        import_model(tmp_path / "m", saved(published_disentangling_vae(32, 1, 2)), name="../up")


def _torch_zip(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


KNOWN = {"betaB_dsprites": (25.00, 78.31), "betaH_dsprites": (14.91, 22.94)}
"""KL and reconstruction loss in nats on 100 images of dSprites, computed by the publishing code base."""


@pytest.mark.skipif("TEST_DATA" not in os.environ, reason="needs published weights (TEST_DATA)")
@pytest.mark.parametrize("model", KNOWN)
def test_known_answers_of_published_weights(tmp_path: Path, model: str) -> None:
    data = Path(os.environ["TEST_DATA"])
    folder = data / "peer-weights" / model
    import_model(tmp_path / "m", folder / "model.pt", spec=(folder / "specs.json").read_bytes())
    network = load_model(tmp_path / "m").network
    with np.load(data / "dsprites100.npz") as arrays:
        images = torch.from_numpy(arrays["imgs"]).float()[:, None]
    with torch.inference_mode():
        mean, log_variance = network.encode(images)
        logits = network.decoder(mean)
    kl = kl_per_dimension(mean, log_variance)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="sum").item() / len(images)
    assert (float(kl.sum()), loss) == pytest.approx(KNOWN[model], abs=0.011)
    if model == "betaB_dsprites":
        assert [k for k in range(10) if kl[k] > 1] == [5, 6, 7, 9]
        assert kl[[5, 6, 7, 9]].tolist() == pytest.approx([7.49, 3.40, 7.67, 6.41], abs=0.01)
