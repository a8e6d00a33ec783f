"""Bundles are read as they were written, with the same bytes each time; hostile zips are refused at no cost."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_files import crowded_zip, zip_bomb

from models.bundles import MAX_INFO_BYTES, ImportRefused, read_bundle, write_bundle
from models.config import NetworkConfig
from models.info import ModelInfo, Preprocessing, write_info
from worker.stores.models import card_of

INFO = ModelInfo(
    name="two | <b>dims</b>",
    network=NetworkConfig(image_size=32, latent_dim=2),
    preprocessing=Preprocessing(image_size=32),
    dataset={"id": "dsprites", "name": "dsprites", "num_images": 100},
    kl_per_dimension=[0.01, 3.5],
    reconstruction_loss=41.5,
    dimension_labels=["", "moves right"],
    dimension_effects=[{}, {"strength": 0.7, "factor": {"name": "x", "correlation": 0.99, "mutual_information": 2.2}}],
    metrics={"mig": {"value": 0.31, "interval": [0.3, 0.32], "note": ""}},
    training={"beta": 4.0},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_info(tmp_path, INFO)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def bundle_of(folder: Path, card: str = "") -> bytes:
    buffer = io.BytesIO()
    write_bundle(folder, buffer, card=card)
    return buffer.getvalue()


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_bundle_gives_back_weights_and_description(folder: Path) -> None:
    assert read_bundle(bundle_of(folder, card="# card")) == (b"weights", INFO)


def test_the_same_model_gives_the_same_bytes(folder: Path) -> None:
    assert bundle_of(folder) == bundle_of(folder)


def test_a_bundle_zipped_by_hand_in_a_folder_is_read(folder: Path) -> None:
    files = {f"my model/{name}": (folder / name).read_bytes() for name in ("model.json", "model.safetensors")}
    assert read_bundle(zip_of(files))[1] == INFO


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zip_of({"model.json": bytes(50 * MAX_INFO_BYTES), "model.safetensors": b""})
    assert len(bomb) < MAX_INFO_BYTES
    with pytest.raises(ImportRefused) as refused:
        read_bundle(bomb)
    assert refused.value.code == "too_large"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused(method: int) -> None:
    with pytest.raises(ImportRefused, match="only stored and deflated files are read") as refused:
        read_bundle(zip_bomb("model.safetensors", 2**20, method))
    assert refused.value.code == "not_a_bundle"


def test_a_bundle_that_is_all_directory_is_refused() -> None:
    with pytest.raises(ImportRefused) as refused:
        read_bundle(crowded_zip(5000, record="64 bit hidden"))
    assert refused.value.code == "not_a_bundle"


def test_a_zip_with_too_many_files_is_refused(folder: Path) -> None:
    with pytest.raises(ImportRefused) as refused:
        read_bundle(zip_of({f"file{k}": b"" for k in range(100)}))
    assert refused.value.code == "not_a_bundle"


def test_two_descriptions_are_refused(folder: Path) -> None:
    data = (folder / "model.json").read_bytes()
    with pytest.raises(ImportRefused) as refused:
        read_bundle(zip_of({"a/model.json": data, "b/model.json": data, "model.safetensors": b""}))
    assert refused.value.code == "not_a_bundle"


def test_damage_anywhere_is_refused_or_harmless(folder: Path) -> None:
    data = bundle_of(folder)
    for at in range(0, len(data), 7):
        for hurt in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
            try:
                read_bundle(hurt)
            except ImportRefused:
                continue


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda description: description.update(values)


@pytest.mark.parametrize(
    "change",
    [
        _set(format_version=99),
        _set(network={"architecture": "burgess", "image_size": 64, "num_channels": 1, "latent_dim": 10**9}),
        _set(network={"image_size": 64}),
        _set(network=None),
        _set(preprocessing=[]),
        _set(likelihood="laplace"),
        _set(likelihood=["bernoulli"]),
        _set(kl_per_dimension=[1.0]),
        _set(kl_per_dimension={"0": 1}),
        _set(kl_per_dimension=["a", "b"]),
        _set(aggregate_std=5),
        _set(typical_mean=["a", "b"]),
        _set(familiarity=[1.0]),
        _set(familiarity={"kl_p99": "low"}),
        _set(dimension_labels=[1, 2]),
        _set(dimension_effects=["a", "b"]),
        _set(dataset=[]),
        _set(metrics="high"),
        _set(reconstruction_loss="low"),
        _set(name=5),
        _set(step=-1),
        _set(created_at=None),
        _set(bernoulli_floor="low"),
        _set(dimension_labels=["a" * 201, ""]),
        _set(dimension_labels=["a", "b", "c"]),
        _set(name="n" * 1001),
        _set(source="s" * 1001),
        _set(created_at="c" * 101),
        _set(metrics={"mig": {"note": "n" * 1001}}),
        _set(metrics={"m" * 1001: 1}),
        _set(metrics={f"m{k}": 1 for k in range(5000)}),
        _set(metrics={"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}),
        _set(training={"list": [0] * 1000}),
        _set(dataset={"a": [[[[[]]]]]}),
        _set(dimension_effects=[{}, {"heat_map": [[0] * 64] * 64}]),
    ],
)
def test_a_description_with_a_wrong_part_is_refused(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    description = json.loads((folder / "model.json").read_text())
    change(description)
    with pytest.raises(ImportRefused) as refused:
        read_bundle(zip_of({"model.json": json.dumps(description).encode(), "model.safetensors": b""}))
    assert refused.value.code == "invalid_description"


def test_a_description_at_its_limits_is_read(folder: Path) -> None:
    full = replace(
        INFO,
        dimension_labels=["a" * 200, ""],
        source="s" * 1000,
        metrics={"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}, **{f"m{k}": 1 for k in range(4990)}},
        dimension_effects=[{}, {"heat_map": [[0.1] * 8] * 8, "changes": {"x": 0.5}}],
    )
    write_info(folder, full)
    assert read_bundle(bundle_of(folder))[1] == full


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"step": NaN}', b'{"step": 1e999}',
        b'{"metrics": {"mig": 1' + b"0" * 400 + b"}}",
    ],
)  # fmt: skip
def test_anything_but_a_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(ImportRefused) as refused:
        read_bundle(zip_of({"model.json": text, "model.safetensors": b""}))
    assert refused.value.code == "invalid_description"


def test_a_card_has_the_facts_of_the_description() -> None:
    info = replace(INFO, training={"objective": "beta", "beta": 4.0})
    card = card_of(info)
    expected = 4 * info.network.latent_dim / (info.network.num_channels * info.network.image_size**2)
    assert f"normalised β (β·D/(C·H·W)) | {expected:g} |" in card
    steered = replace(INFO, training={"objective": "controlled", "beta": 4.0, "gamma": 7.0}, steered_beta=2.0)
    assert f"normalised β (β·D/(C·H·W)) | {expected / 2:g} |" in card_of(steered)
    assert "| gamma |" not in card_of(steered)
    for text in ("32×32 grey", "dsprites (100 images)", "41.50 nats", "moves right", "0.31", "r 0.99", "not stated"):
        assert text in card
    # The dimension with the largest KL comes first.
    assert card.index("| 1 | 3.50") < card.index("| 0 | 0.01")


@pytest.mark.parametrize("objective", [None, 5, ["beta"], {}, "unheard of"])
def test_a_card_of_an_unknown_objective_lists_what_every_run_reads(objective: Any) -> None:
    card = card_of(replace(INFO, training={"objective": objective, "gamma": 7.0, "seed": 3}))
    assert "| seed | 3 |" in card
    assert "| gamma |" not in card


def test_a_name_cannot_become_markup_in_a_card() -> None:
    assert card_of(INFO).startswith("# two \\| \\<b\\>dims\\</b\\>\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": 5}, "licence: must be a text, not 5"),
        ({"dimension_labels": [1, 2, 3]}, "dimension_labels.0: must be a text, not 1"),
        ({"step": "many"}, "step: must be a whole number, not 'many'"),
        ({"metrics": [1]}, "metrics: must be an object, not [1]"),
    ],
)
def test_a_description_with_a_part_of_another_type_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not a model description: {message}")):
        ModelInfo.from_json(INFO.to_json() | changes)
    assert ModelInfo.from_json(INFO.to_json()) == INFO
