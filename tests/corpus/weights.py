"""Files of models: one of every accepted kind, and those made to cost memory or to run code."""

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from api_support import add_model
from hostile_files import crowded_zip, zip_bomb
from torch import nn

from corpus.sets import MIB, Shell, zipped
from worker.stores.storage import LocalStorage

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Upload:
    """A file, the description beside it, and the answer.

    Attributes:
        name: The case's name.
        make: Makes the file.
        spec: Makes the description; None: there is none.
        status: The status of the answer.
        code: The problem's code; empty if the model is taken.
    """

    name: str
    make: Make
    spec: Make | None = None
    status: int = 422
    code: str = "invalid_model"


@cache
def own_files() -> dict[str, bytes]:
    """Returns the files of a small model: model.json and model.safetensors."""
    with tempfile.TemporaryDirectory() as folder:
        add_model(LocalStorage(Path(folder)), "tiny")
        model = Path(folder) / "models" / "tiny"
        # Its effects would be measured again otherwise, for half a second a case.
        description = json.loads((model / "model.json").read_text())
        description["dimension_effects"] = [{"strength": 0.5}] * 4
        return {
            "model.json": json.dumps(description).encode(),
            "model.safetensors": (model / "model.safetensors").read_bytes(),
        }


def description(**changes: Any) -> bytes:
    """Returns the description of the small model with changes."""
    return json.dumps({**json.loads(own_files()["model.json"]), **changes}).encode()


def bundle(**changes: Any) -> bytes:
    """Returns a bundle of the small model with changes of its description."""
    return bundle_of_text(description(**changes))


def bundle_of_text(text: bytes) -> bytes:
    """Returns a bundle with any description."""
    return zipped({**own_files(), "model.json": text}, zipfile.ZIP_STORED)


@cache
def state_1konny() -> dict[str, torch.Tensor]:
    """Returns a state dict as 1Konny/Beta-VAE writes it for its model H."""
    conv, up = nn.Conv2d, nn.ConvTranspose2d
    layers: dict[str, nn.Module] = {
        **{f"encoder.{k}": layer for k, layer in zip((0, 2, 4, 6, 8, 11), (
            conv(1, 32, 4), conv(32, 32, 4), conv(32, 64, 4), conv(64, 64, 4), conv(64, 256, 4), nn.Linear(256, 8)),
            strict=True)},
        **{f"decoder.{k}": layer for k, layer in zip((0, 3, 5, 7, 9, 11), (
            nn.Linear(4, 256), up(256, 64, 4), up(64, 64, 4), up(64, 32, 4), up(32, 32, 4), up(32, 1, 4)),
            strict=True)},
    }  # fmt: skip
    return {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}


def torch_file(value: Any, *, legacy: bool = False) -> bytes:
    """Returns a file of torch.save."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def safetensors(header: bytes, *, length: int | None = None, data: bytes = b"") -> bytes:
    """Returns a safetensors file of any header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensors(**entries: Any) -> bytes:
    """Returns a safetensors file of entries, with 64 bytes of data."""
    return safetensors(json.dumps(entries).encode(), data=bytes(64))


def scaled(factor: float) -> bytes:
    """Returns a bundle whose weights are multiplied."""
    from safetensors.torch import load, save

    values = {name: tensor * factor for name, tensor in load(own_files()["model.safetensors"]).items()}
    return zipped({"model.safetensors": save(values), "model.json": description(weights_sha256="")})


ACCEPTED: dict[str, tuple[Make, Make | None]] = {
    "bundle": (bundle, None),
    "safetensors": (lambda: own_files()["model.safetensors"], description),
    "1konny": (lambda: torch_file({"model_states": {"net": state_1konny()}}), None),
    "1konny-legacy": (lambda: torch_file(state_1konny(), legacy=True), None),
}
"""File and description of each kind."""


def _torch_zip(pickled: bytes) -> bytes:
    return zipped({"archive/data.pkl": pickled, "archive/version": b"3"}, zipfile.ZIP_STORED)


CASES: tuple[Upload, ...] = (
    *(Upload(f"accepted-{name}", file, spec, 201, "") for name, (file, spec) in ACCEPTED.items()),
    Upload("no-bytes", lambda: b""),
    Upload("text", lambda: b"no model" * 100),
    Upload("bundle-bzip2-bomb", lambda: zip_bomb("model.safetensors", 64 * MIB, zipfile.ZIP_BZIP2)),
    Upload("bundle-deflate-bomb", lambda: zip_bomb("model.json", 64 * MIB, zipfile.ZIP_DEFLATED)),
    Upload("bundle-of-directory", lambda: crowded_zip(300_000, record="64 bit hidden")),
    Upload("bundle-cut", lambda: bundle()[:-40]),
    Upload("bundle-without-weights", lambda: zipped({"model.json": description()})),
    Upload("description-deep", lambda: bundle_of_text(b'{"metrics": ' + b'{"a":' * 900 + b"1" + b"}" * 901)),
    Upload("description-deeper", lambda: bundle_of_text(b"[" * 1_000_000)),
    Upload("description-nan", lambda: bundle_of_text(description().replace(b'"step": 0', b'"step": NaN'))),
    Upload("description-1e999", lambda: bundle_of_text(description().replace(b'"step": 0', b'"step": 1e999'))),
    Upload("description-lone-surrogate", lambda: bundle(licence="\ud800")),
    Upload("description-long-label", lambda: bundle(dimension_labels=["a" * 300_000, "", "", ""])),
    Upload("description-labels-of-3-kb", lambda: bundle(dimension_labels=["m" * 3000] * 4)),
    Upload("description-million-dimensions", lambda: bundle(network={"image_size": 32, "latent_dim": 10**6})),
    Upload("description-many-values", lambda: bundle(metrics={f"m{k}": 1 for k in range(100_000)})),
    Upload("description-of-another-type", lambda: bundle(kl_per_dimension={"0": 1})),
    Upload("safetensors-without-description", lambda: own_files()["model.safetensors"]),
    Upload("safetensors-long-header", lambda: safetensors(b"{}", length=2**63), description),
    Upload("safetensors-header-past-end", lambda: safetensors(b"{" + b" " * 100, length=200), description),
    Upload("safetensors-deep-header", lambda: safetensors(b'{"a":' * 100_000, data=b""), description),
    Upload("safetensors-huge-shape", lambda: tensors(a={"dtype": "F32", "shape": [2**40, 2**40],
                                                        "data_offsets": [0, 64]}), description),
    Upload("safetensors-past-end", lambda: tensors(a={"dtype": "F32", "shape": [2**30],
                                                      "data_offsets": [0, 2**32]}), description),
    Upload("safetensors-overlapping", lambda: tensors(**{f"a{k}": {"dtype": "F32", "shape": [16],
                                                                   "data_offsets": [0, 64]} for k in range(50)}),
           description),
    Upload("weights-of-infinity", lambda: scaled(float("inf"))),
    Upload("weights-of-nan", lambda: scaled(float("nan"))),
    Upload("weights-of-another-network", lambda: zipped({**own_files(), "model.safetensors": tensors()})),
    Upload("pickle-that-runs", lambda: torch_file({"net": Shell()})),
    Upload("pickle-that-runs-legacy", lambda: torch_file({"net": Shell()}, legacy=True)),
    Upload("pickle-of-4-gb", lambda: _torch_zip(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R.")),
    Upload("pickle-of-objects", lambda: _torch_zip(b"\x80\x02" + b"}" * 10**6 + b".")),
    Upload("checkpoint-of-another-network", lambda: torch_file({"net": {"a.weight": torch.zeros(4)}})),
    Upload("checkpoint-cut", lambda: torch_file(state_1konny())[:-500]),
    Upload("weights-of-40-mb", lambda: bytes(40 * MIB), None, 413, "upload_too_large"),
)  # fmt: skip
