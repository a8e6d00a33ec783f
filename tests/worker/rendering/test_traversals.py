"""Traversals: valid requests, the positions of frames, and equal bytes for equal requests."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.config import ConfigError, NetworkConfig
from models.files import LoadedModel, save_model
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from worker.jobs.claims import Claim
from worker.render_job import Stages, load_cached, make_traversal, run_traversal_job
from worker.rendering.cells import panels
from worker.rendering.decoder import FrameDecoder
from worker.rendering.encoders import encode_png
from worker.rendering.parts import dimension_file, input_keys, job_request, traversal_id
from worker.rendering.rendered import Rendered
from worker.rendering.request import (
    MAX_SHEET_PIXELS,
    Pixels,
    TraversalRequest,
    parse_request,
    resolve_request,
)
from worker.rendering.traversal import encode_image, interpolate, prior_draw, render_traversal
from worker.stores.models import ModelRegistry
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage, open_storage

LATENT_DIM = 4


def _model(num_channels: int = 1, **info: Any) -> LoadedModel:
    """Returns a small network whose random weights are large enough that its latents move its pictures."""
    config = NetworkConfig(image_size=32, num_channels=num_channels, latent_dim=LATENT_DIM)
    network = VAE(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2.2 / parameter[0].numel() ** 0.5))
    values = {
        "kl_per_dimension": [0.5, 0.01, 3.0, 0.2],
        "aggregate_mean": [0.1, 0.0, -0.2, 0.3],
        "aggregate_std": [0.9, 0.1, 1.1, 0.5],
        "dimension_labels": ["moves right", "", "", ""],
        "weights_sha256": "0" * 64,
        **info,
    }
    preprocessing = Preprocessing(image_size=32, num_channels=num_channels)
    return LoadedModel(network.eval(), ModelInfo(name="random", network=config, preprocessing=preprocessing, **values))


def _image(num_channels: int = 1, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, num_channels), dtype=np.uint8)


MODELS = {channels: _model(channels) for channels in (1, 3)}


def _render(form: dict[str, Any], *, channels: int = 1, images: int = 1) -> Rendered:
    model = MODELS[channels]
    request = resolve_request(parse_request(form), model.info, images)
    return render_traversal(model, [_image(channels, seed) for seed in range(images)], request)


requests = st.fixed_dictionaries(
    {
        "dimensions": st.sampled_from(["all", "active", "2", "0,3", "1-2"]),
        "order": st.sampled_from(["index", "kl"]),
        "range": st.sampled_from(["prior", "posterior", "quantiles", "image"]),
        "start": st.floats(-10, 10),
        "end": st.floats(-10, 10),
        "steps": st.integers(2, 9),
    }
)


@settings(deadline=None, max_examples=25)
@given(form=requests, channels=st.sampled_from([1, 3]))
def test_only_the_named_dimension_moves_and_both_ends_are_there(form: dict[str, Any], channels: int) -> None:
    model = MODELS[channels]
    rendered = _render(form, channels=channels)
    mean, log_variance = encode_image(model.network, _image(channels))
    assert np.array_equal(rendered.mean, mean)
    for strip in rendered.strips:
        assert strip.dimension is not None
        k = strip.dimension
        centre, unit = {
            "prior": (0.0, 1.0),
            "posterior": (model.info.aggregate_mean[k], model.info.aggregate_std[k]),
            "quantiles": (model.info.aggregate_mean[k], model.info.aggregate_std[k]),
            "image": (float(mean[k]), float(np.exp(0.5 * log_variance[k]))),
        }[form["range"]]
        assert strip.values[0] == pytest.approx(centre + unit * form["start"], abs=1e-5)
        assert strip.values[-1] == pytest.approx(centre + unit * form["end"], abs=1e-5)
        assert len(strip.values) == len(strip.frames) == form["steps"]
        latents = np.repeat(mean[None], form["steps"], 0)
        latents[:, k] = strip.values
        expected = FrameDecoder(model.network).frames(latents).astype(int)
        # The decoder rounds differently in batches of another size, by at most one level of 255.
        assert np.abs(strip.frames.astype(int) - expected).max() <= 1


@settings(deadline=None, max_examples=20)
@given(
    base=st.lists(st.sampled_from([-1.5, -1.0, 0.0, 0.5, 3.0]), min_size=LATENT_DIM, max_size=LATENT_DIM),
    channels=st.sampled_from([1, 3]),
)
def test_the_frame_at_the_base_value_is_the_reconstruction(base: list[float], channels: int) -> None:
    rendered = _render({"z": base, "start": -3, "end": 3, "steps": 13}, channels=channels, images=0)
    for strip in rendered.strips:
        assert strip.dimension is not None
        (hits,) = np.nonzero(strip.values == np.float32(base[strip.dimension]))
        assert len(hits) == 1
        assert np.array_equal(strip.frames[hits[0]], rendered.reconstruction)


def test_the_middle_of_the_images_own_range_is_the_reconstruction() -> None:
    rendered = _render({"range": "image", "steps": 7})
    for strip in rendered.strips:
        assert np.array_equal(strip.frames[3], rendered.reconstruction)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num", [1, 33])
def test_frames_are_the_pixel_means_of_the_network(channels: int, num: int) -> None:
    network = MODELS[channels].network
    latents = np.random.default_rng(0).normal(size=(num, LATENT_DIM)).astype(np.float32)
    with torch.no_grad():
        expected = network.decode(torch.from_numpy(latents)).permute(0, 2, 3, 1).numpy() * 255
    frames = FrameDecoder(network).frames(latents)
    assert frames.std() > 10
    assert np.abs(frames - expected).max() < 0.51


def test_the_callers_images_stay_as_they_are() -> None:
    image = _image()
    before = image.copy()
    model = MODELS[1]
    render_traversal(model, [image], resolve_request(parse_request({"steps": 3}), model.info, 1))
    assert np.array_equal(image, before)


def test_quantiles_spread_the_steps_by_probability() -> None:
    positions = _render({"range": "quantiles", "steps": 5, "start": -2, "end": 2}).positions
    gaps = np.diff(positions)
    assert positions[2] == pytest.approx(0, abs=1e-6)
    assert gaps[0] > gaps[1]
    assert gaps == pytest.approx(gaps[::-1])


def test_order_and_choice_follow_the_kl() -> None:
    def order(**form: Any) -> list[int | None]:
        return [strip.dimension for strip in _render({"steps": 2, **form}).strips]

    assert order() == [0, 1, 2, 3]
    assert order(order="kl") == [2, 0, 3, 1]
    assert order(dimensions="active", order="kl") == [2, 0, 3]
    assert order(dimensions="3,0") == [0, 3]


def test_a_model_without_kls_takes_those_of_the_image() -> None:
    model = _model(kl_per_dimension=[])
    request = resolve_request(parse_request({"order": "kl", "steps": 2}), model.info, 1)
    rendered = render_traversal(model, [_image()], request)
    assert rendered.kl is not None
    assert rendered.image_kl is not None
    kls = [rendered.image_kl[strip.dimension or 0] for strip in rendered.strips]
    assert kls == sorted(kls, reverse=True)


def test_a_seed_names_one_draw_from_the_prior() -> None:
    assert np.array_equal(_render({"seed": 5, "steps": 2}, images=0).mean, prior_draw(5, LATENT_DIM))
    assert not np.array_equal(prior_draw(5, LATENT_DIM), prior_draw(6, LATENT_DIM))
    draws = np.stack([prior_draw(seed, 50) for seed in range(100)])
    assert abs(draws.mean()) < 0.05
    assert abs(draws.std() - 1) < 0.05


@pytest.mark.parametrize("path", ["linear", "slerp"])
def test_an_interpolation_goes_from_one_mean_to_the_other(path: str) -> None:
    model = MODELS[3]
    rendered = _render({"interpolation": path, "steps": 6}, channels=3, images=2)
    (strip,) = rendered.strips
    assert rendered.target is not None
    for frame, seed in ((strip.frames[0], 0), (strip.frames[-1], 1)):
        mean, _ = encode_image(model.network, _image(3, seed))
        assert np.array_equal(frame, FrameDecoder(model.network).frames(mean[None])[0])
    assert np.array_equal(strip.frames[-1], rendered.target[1])


@pytest.mark.parametrize("path", ["linear", "slerp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_path_goes_from_one_latent_vector_to_the_other(path: str, channels: int) -> None:
    model, ends = MODELS[channels], ([0.5, -1.0, 0.0, 2.0], [-1.5, 0.5, 1.0, 0.25])
    form = {"z": ends[0], "z2": ends[1], "interpolation": path, "steps": 7, "loop": "pingpong", "format": "mp4"}
    rendered = _render(form, channels=channels, images=0)
    (strip,) = rendered.strips
    first, last = (np.array(end, np.float32) for end in ends)
    decoder = FrameDecoder(model.network)
    latents = interpolate(first, last, np.linspace(0, 1, 7, dtype=np.float32), path)
    assert np.abs(strip.frames.astype(int) - decoder.frames(latents)).max() <= 1
    assert np.array_equal(strip.frames[0], decoder.frames(first[None])[0])
    assert np.array_equal(strip.frames[-1], decoder.frames(last[None])[0])
    assert strip.values == pytest.approx([k / 6 for k in range(7)])
    if path == "linear":
        assert latents[2] == pytest.approx((2 * first + last) / 3)
    assert [[text for text, _ in panel] for panel in panels(rendered)] == [["start"], ["end"]]
    files, result = _files(model, [], rendered.request)
    assert sorted(files) == ["reconstruction.png", "sheet.gif", "sheet.mp4", "sheet.png"]
    assert result["dimensions"] == []
    assert result["request"]["z2"] == ends[1]
    with Image.open(io.BytesIO(files["sheet.gif"])) as film:
        assert getattr(film, "n_frames", 1) == 2 * 7 - 2


@settings(deadline=None)
@given(
    ends=st.tuples(*[st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3)] * 2),
    path=st.sampled_from(["linear", "slerp"]),
)
def test_interpolation_ends_are_exact_and_slerp_keeps_the_length(
    ends: tuple[list[float], list[float]], path: str
) -> None:
    first, last = (np.array(end, np.float32) for end in ends)
    latents = interpolate(first, last, np.linspace(0, 1, 5, dtype=np.float32), path)
    assert np.array_equal(latents[0], first)
    assert np.array_equal(latents[-1], last)
    assert np.isfinite(latents).all()
    lengths = np.linalg.norm(ends, axis=1)
    if path == "slerp" and lengths.min() > 0.1:
        turned = interpolate(
            first, (last / lengths[1] * lengths[0]).astype(np.float32), np.array([0.5], np.float32), path
        )
        cosine = float(first @ last) / lengths.prod()
        if abs(cosine) < 0.99:
            assert np.linalg.norm(turned) == pytest.approx(lengths[0], rel=1e-3)


def test_a_grid_moves_one_dimension_across_and_one_down() -> None:
    model = MODELS[1]
    rendered = _render({"grid": "3,0", "steps": 5, "columns": 3})
    assert rendered.rows is not None
    assert rendered.row_values is not None
    assert [strip.dimension for strip in rendered.strips] == [0, 3]
    assert rendered.row_values.tolist() == [-3.0, 0.0, 3.0]
    for row, value in zip(rendered.rows, rendered.row_values, strict=True):
        latents = np.repeat(rendered.mean[None], 5, 0)
        latents[:, 0], latents[:, 3] = value, row.values
        assert np.abs(row.frames.astype(int) - FrameDecoder(model.network).frames(latents)).max() <= 1


def _files(
    model: LoadedModel, images: list[Pixels], request: TraversalRequest
) -> tuple[dict[str, bytes], dict[str, Any]]:
    files: dict[str, bytes] = {}
    result = make_traversal(model, images, request, files.__setitem__)
    return files, result


@pytest.mark.parametrize(
    ("parts", "timed"),
    [
        ([], ["frames"]),
        (["reconstruction.png"], ["frames"]),
        (["animations", "ends", "reconstruction.png"], ["frames"]),
        (["sheet.png"], ["frames", "sheets"]),
        (None, ["frames", "sheets"]),
    ],
    ids=str,
)
def test_the_time_of_sheets_is_taken_where_any_is_drawn(parts: list[str] | None, timed: list[str]) -> None:
    files: dict[str, bytes] = {}
    stages, request = Stages(), resolve_request(parse_request({"steps": 2, "dimensions": "0"}), MODELS[1].info, 1)
    make_traversal(MODELS[1], [_image(1)], request, files.__setitem__, parts=parts, stages=stages)
    assert sorted(stages.seconds) == timed
    assert any(name.startswith("sheet.") for name in files) == ("sheets" in timed)
    assert stages.amounts().keys() == {f"{part}:{stage}" for part in ("renders", "render_seconds") for stage in timed}


@pytest.mark.parametrize(
    "form",
    [
        {"steps": 3},
        {"steps": 3, "captions": "on", "order": "kl", "loop": "pingpong"},
        {"steps": 3, "captions": "off", "scale": 1, "format": "webp"},
        {"grid": "0,1", "steps": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_request_gives_the_same_bytes(form: dict[str, Any], channels: int) -> None:
    model = MODELS[channels]
    request = resolve_request(parse_request(form), model.info, 1)
    files, result = _files(model, [_image(channels)], request)
    assert _files(model, [_image(channels)], request) == (files, result)
    assert {one["file"] for one in result["dimensions"]} < set(files)
    assert {"sheet.gif", "sheet.png", "reconstruction.png"} < set(files)
    assert ("sheet.webp" in files) == (form.get("format") == "webp")
    assert result["files"] == {name: len(data) for name, data in sorted(files.items())}


def _identity(model: LoadedModel = MODELS[1], image: Pixels | None = None, **form: Any) -> str:
    request = resolve_request(parse_request(form), model.info, 1)
    return traversal_id(request, model.info, [_image() if image is None else image])


def test_only_equal_requests_have_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    other_pixel = _image()
    other_pixel[0, 0, 0] ^= 1
    base = _identity()
    assert base == _identity(dimensions="0-3", start="-3", scale="0", format="gif")
    others = [
        _identity(image=other_pixel),
        _identity(MODELS[1], steps=30),
        _identity(dimensions="0"),
        _identity(_model(weights_sha256="1" * 64)),
        _identity(_model(dimension_labels=["", "", "", "moves"])),
        _identity(_model(kl_per_dimension=[1.0, 1.0, 1.0, 1.0])),
    ]
    vector = resolve_request(parse_request({"z": "1,2,3,4"}), MODELS[1].info, 0)
    assert "z2" not in vector.to_json()  # Requests without it keep their ids.
    for z2 in ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)):
        path = vector.replace(z2=z2)
        assert TraversalRequest.from_json(path.to_json()) == path
        others.append(traversal_id(path, MODELS[1].info, []))
    others.append(traversal_id(vector, MODELS[1].info, []))
    monkeypatch.setattr("worker.rendering.parts.RENDERER_VERSION", -1)
    others.append(_identity())
    assert len({base, *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("form", "images", "field"),
    [
        ({"steps": "1"}, 1, "steps"),
        ({"steps": "2.5"}, 1, "steps"),
        ({"steps": "9" * 400}, 1, "steps"),
        ({"fps": "nan"}, 1, "fps"),
        ({"start": "inf"}, 1, "start"),
        ({"end": 10**400}, 1, "end"),
        ({"z": "1,2,3"}, 0, "z"),
        ({"z": "[1,2,3,null]"}, 0, "z"),
        ({"z": "[" * 9000}, 0, "z"),
        ({"z": "1,2,3,nan"}, 0, "z"),
        ({"z": "1,2,3,4"}, 1, "z"),
        ({"z": "1,2,3,4", "seed": "1"}, 0, "seed"),
        ({"z2": "1,2,3,4"}, 0, "z2"),
        ({"z2": "1,2,3,4"}, 1, "z2"),
        ({"z2": "1,2,3,4", "seed": "1"}, 0, "z2"),
        ({"z": "1,2,3,4", "z2": "1,2,3"}, 0, "z2"),
        ({"z": "1,2,3,4", "z2": "1,2,3,nan"}, 0, "z2"),
        ({"z": "1,2,3,4", "z2": "1,2,3,1001"}, 0, "z2"),
        ({"z": "1,2,3", "z2": "1,2,3"}, 0, "z"),
        ({"z": "1,2,3,4", "z2": "4,3,2,1"}, 2, "z"),
        ({"z": "1,2,3,4", "z2": "4,3,2,1", "grid": "1,2"}, 0, "grid"),
        ({"seed": "-1"}, 0, "seed"),
        ({}, 0, "image"),
        ({"dimensions": "4"}, 1, "dimensions"),
        ({"dimensions": "1,1"}, 1, "dimensions"),
        ({"dimensions": "-1"}, 1, "dimensions"),
        ({"dimensions": "0-99999999999"}, 1, "dimensions"),
        ({"grid": "1"}, 1, "grid"),
        ({"grid": "1,4"}, 1, "grid"),
        ({"grid": "1,2"}, 2, "grid"),
        ({"range": "image", "seed": "1"}, 0, "range"),
        ({"loop": "backward"}, 1, "loop"),
        ({"captions": "maybe"}, 1, "captions"),
        ({"scale": "17"}, 1, "scale"),
        ({"scale": "16", "steps": "240"}, 1, "scale"),
        ({"format": "exe"}, 1, "format"),
        ({"nonsense": "1"}, 1, "nonsense"),
    ],
    ids=str,
)
def test_an_impossible_request_is_refused_by_its_field(form: dict[str, Any], images: int, field: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve_request(parse_request(form), MODELS[1].info, images)
    assert refusal.value.field == field


@pytest.mark.parametrize("form", [{"range": "posterior"}, {"range": "quantiles"}], ids=str)
def test_a_model_without_an_aggregate_posterior_refuses_its_ranges(form: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="range"):
        resolve_request(parse_request(form), _model(aggregate_mean=[], aggregate_std=[]).info, 1)


@settings(deadline=None)
@given(
    steps=st.integers(2, 240),
    scale=st.integers(0, 16),
    latent_dim=st.sampled_from([1, 10, 32, 256]),
    image_size=st.sampled_from([32, 64, 128]),
)
def test_every_accepted_request_has_a_bounded_cost(steps: int, scale: int, latent_dim: int, image_size: int) -> None:
    network = NetworkConfig(image_size=image_size, num_channels=3, latent_dim=latent_dim)
    info = ModelInfo(name="any", network=network, preprocessing=Preprocessing())
    try:
        request = resolve_request(TraversalRequest(steps=steps, scale=scale), info, 1)
    except ConfigError as error:
        refused = error.field
    else:
        refused = ""
    if refused:
        assert refused in ("steps", "scale")
        return
    tile = request.scale * image_size
    assert 1 <= request.scale <= 16
    assert latent_dim * steps * image_size**2 <= 2**26
    assert latent_dim * tile**2 <= MAX_SHEET_PIXELS


def test_forms_and_json_describe_the_same_request() -> None:
    request = parse_request({"z": "[0.5, -1]", "steps": "7", "captions": "true", "fps": "", "start": "-2"})
    assert request == TraversalRequest(z=(0.5, -1.0), steps=7, captions="on", start=-2.0)
    assert TraversalRequest.from_json(request.to_json()) == request


def test_files_count_from_one() -> None:
    assert [dimension_file(k) for k in (0, 9, 99)] == ["z_01.gif", "z_10.gif", "z_100.gif"]


class FakeClaim:
    """Records how a job ended."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.job = SimpleNamespace(request=request)
        self.store = SimpleNamespace(count=lambda amounts: None)
        self.ending: tuple[Any, ...] = ()

    def succeed(self, result: dict[str, Any]) -> None:
        self.ending = ("succeeded", result)

    def fail(self, code: str, message: str) -> None:
        self.ending = ("failed", code)


def test_a_job_leaves_its_files_and_uses_a_warm_model(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "home")
    registry = ModelRegistry(storage, pretrained=tmp_path / "none")
    save_model(tmp_path / "model", MODELS[1].network, MODELS[1].info)
    model_id = registry.add(tmp_path / "model")
    service_settings = cast(Settings, SimpleNamespace(device="cpu"))
    request = resolve_request(parse_request({"steps": 2}), registry.info(model_id), 1)
    claim = FakeClaim(job_request("f" * 32, model_id, request, 1))

    run_traversal_job(cast(Claim, claim), storage, registry, service_settings)
    assert claim.ending[1] == "input_missing"

    storage.write_bytes(input_keys("f" * 32, 1)[0], encode_png(_image()))
    run_traversal_job(cast(Claim, claim), storage, registry, service_settings)
    assert claim.ending[0] == "succeeded"
    result = storage.read_json(f"traversals/{'f' * 32}/result.json")
    stored = set(storage.list(f"traversals/{'f' * 32}"))
    assert set(result["files"]) | {"result.json", "request.json", "input.png"} == stored
    assert [one["index"] for one in result["dimensions"]] == [0, 1, 2, 3]

    # Another format of the same traversal adds one file and leaves the others unchanged.
    assert isinstance(storage, LocalStorage)
    sheet = storage.path(f"traversals/{'f' * 32}/sheet.gif")
    written = sheet.stat().st_mtime_ns
    claim = FakeClaim(job_request("f" * 32, model_id, request.replace(format="webp"), 1))
    run_traversal_job(cast(Claim, claim), storage, registry, service_settings)
    assert claim.ending[0] == "succeeded"
    assert sheet.stat().st_mtime_ns == written
    more = storage.read_json(f"traversals/{'f' * 32}/result.json")["files"]
    assert set(more) - set(result["files"]) == {"sheet.webp"}

    warm = load_cached(registry, model_id, service_settings)
    assert load_cached(registry, model_id, service_settings).network is warm.network
    registry.update(model_id, replace(registry.info(model_id), dimension_labels=["a", "b", "c", "d"]))
    assert load_cached(registry, model_id, service_settings).info.dimension_labels == ["a", "b", "c", "d"]
