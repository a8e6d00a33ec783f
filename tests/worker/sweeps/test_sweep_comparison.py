"""The models of a sweep compared: aligned dimensions, the choice without labels, figure, sheet, means over seeds."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from models.config import NetworkConfig
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from training.config import config_to_json
from training.presets import resolve
from training.summary import encode
from worker.rendering.decoder import FrameDecoder
from worker.runtime import Runtime, open_runtime
from worker.stores.settings import Settings
from worker.sweeps import sheet
from worker.sweeps.comparison import Candidate, IncomparableModels, compare_candidates, ranked
from worker.sweeps.figure import figure_of, sweep_figure
from worker.sweeps.records import Member
from worker.sweeps.sheet import sweep_sheet
from worker.sweeps.summary import MemberResult, cells_of, results_of, table_csv
from worker.tasks import work_on

IMAGES = np.random.default_rng(0).integers(0, 255, (96, 32, 32, 1), np.uint8)


def network(seed: int) -> VAE:
    """Returns a network whose dimensions carry information about the pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = VAE(NetworkConfig(image_size=32, latent_dim=3)).eval()
    codes = encode(vae, IMAGES, None, torch.device("cpu"))[0]
    with torch.no_grad():
        scale = torch.from_numpy(1 / codes.std(0))
        vae.encoder.mean.weight.mul_(scale[:, None])
        vae.encoder.mean.bias.mul_(scale).sub_(torch.from_numpy(codes.mean(0)) * scale)
    return vae


def turned(vae: VAE, order: list[int], signs: list[int]) -> VAE:
    """Returns the same network with its dimensions in another order and some of them turned round."""
    other = VAE(vae.config).eval()
    other.load_state_dict(vae.state_dict())
    turn = torch.tensor(signs, dtype=torch.float32)
    with torch.no_grad():
        for layer, scale in ((other.encoder.mean, turn), (other.encoder.log_variance, torch.ones(3))):
            layer.weight.copy_(layer.weight[order] * scale[:, None])
            layer.bias.copy_(layer.bias[order] * scale)
        first = other.decoder.body[0]
        assert isinstance(first, torch.nn.Linear)
        first.weight.copy_(first.weight[:, order] * turn)
    return other


def candidate(name: str, vae: VAE, settings: dict[str, Any], **scores: float) -> Candidate:
    info = ModelInfo(
        name=name,
        network=vae.config,
        preprocessing=Preprocessing(image_size=32, num_channels=1),
        reconstruction_loss=20.0 + len(scores),
        explained_variance=0.5,
        dimension_labels=["left to right", "", "size"],
    )
    return Candidate(
        id=name,
        settings=settings,
        info=info,
        images=IMAGES,
        load=lambda: vae,
        scores={one: {"value": value} for one, value in scores.items()},
    )


def quiet(stage: str, done: int, total: int) -> None:
    """Reports nothing."""


def test_dimensions_are_aligned_to_the_model_that_agrees_most() -> None:
    first = network(0)
    models = [
        candidate("other", network(1), {"beta": 4, "seed": 0}),
        candidate("first", first, {"beta": 1, "seed": 0}, mig=0.25),
        candidate("turned", turned(first, [2, 0, 1], [1, -1, 1]), {"beta": 1, "seed": 1}, mig=0.25),
    ]
    found = compare_candidates(models, quiet)
    best = found.order[0]
    assert set(found.order[:2]) == {1, 2}
    assert found.agreement == "cell"
    assert found.udr[0] is None
    assert found.udr[1] == pytest.approx(found.udr[2], abs=0.02)
    assert min(found.centrality[1] or 0, found.centrality[2] or 0) > (found.centrality[0] or 0)
    assert found.notes == ["without another seed, there is no UDR of beta 4, seed 0"]
    signs = {
        (column.dimensions[1], column.dimensions[2]): round((column.correlations[3 - best] or 0), 2)
        for column in found.columns
    }
    assert signs == {(2, 0): 1.0, (0, 1): -1.0, (1, 2): 1.0}
    assert {column.label for column in found.columns} == {"left to right", "", "size"}
    assert all(column.correlations[best] == pytest.approx(1) for column in found.columns)
    assert re.fullmatch(
        r"It has the best mean rank in agreement with the other 2: UDR \.?[\d.]+ \(rank [12]\), ModelCentrality [\d.]+ "
        r"\(rank [12]\); 3 of its 3 dimensions are active, and its reconstruction loss is 21.00 nats. No labels were "
        r"used. Its MIG of 0.250 has rank 1.",
        found.reason,
    )


def test_a_single_model_is_chosen_and_drawn() -> None:
    one = candidate("one", network(0), {"seed": 0})
    found = compare_candidates([one], quiet)
    assert (found.order, found.udr, found.centrality) == ([0], [None], [None])
    assert found.reason == "It is the only model of the sweep; 3 of its 3 dimensions are active."
    for data in (sweep_figure([one], found, "one $x$"), sweep_sheet([one], found, "one")):
        assert Image.open(io.BytesIO(data)).format == "PNG"


def test_a_categorical_latent_stays_in_its_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(NetworkConfig(image_size=32, latent_dim=3, num_categories=8)).eval()
    one, gaussian = candidate("c", vae, {"seed": 0}), candidate("g", network(0), {"seed": 1})
    decoded: list[Any] = []
    frames = FrameDecoder.frames

    def note(decoder: FrameDecoder, latents: Any) -> Any:
        decoded.append(latents)
        return frames(decoder, latents)

    monkeypatch.setattr(FrameDecoder, "frames", note)
    found = compare_candidates([one], quiet)
    sweep_sheet([one], found, "one")
    for column, latents in zip(found.columns, decoded[1:], strict=True):
        moved = latents[:, column.dimensions[0]]
        np.testing.assert_allclose(moved, [-2 / 3, -1 / 3, 0, 1 / 3, 2 / 3], atol=1e-6)
    end = "each row is the same latent from "
    assert sheet.heading([one], [0]).endswith(f"{end}-0.67 to 0.67")
    assert sheet.heading([gaussian], [0]).endswith(f"{end}-2 to 2")
    assert sheet.heading([one, gaussian], [0, 1]).endswith(f"{end}-2 to 2 (a third of that if categorical)")


def test_many_models_have_a_sheet_of_the_best_and_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST_MODELS", 3)
    models = [candidate(f"m{k}", network(k), {"objective": "beta", "beta": k}) for k in range(4)]
    found = compare_candidates(models, quiet)
    assert found.agreement == "sweep"
    assert None not in found.udr
    best = [models[k] for k in found.order[:3]]
    drawn = [sweep_sheet(models, found, "many"), sweep_sheet(best, compare_candidates(best, quiet), "best")]
    sizes = [Image.open(io.BytesIO(data)).size for data in drawn]
    assert sizes[0] == sizes[1]
    assert Image.open(io.BytesIO(sweep_figure(models, found, "many"))).size == (1008, 624)


def test_cells_whose_labels_begin_alike_have_colours_of_their_own() -> None:
    long = {"objective": "factorvae", "gamma": 40, "discriminator_learning_rate": 0.001}
    models = [
        candidate("large", network(0), long, mig=0.1),
        candidate("small", network(1), {**long, "discriminator_width": 256}, mig=0.2),
    ]
    drawn = Image.open(io.BytesIO(sweep_figure(models, compare_candidates(models, quiet), "alike"))).convert("RGB")
    pixels = {colour for _, colour in drawn.getcolors(drawn.width * drawn.height) or []}
    for colour in ((31, 119, 180), (255, 127, 14)):  # The first two of matplotlib's, over white.
        assert any(np.abs(np.array(pixel) - (0.85 * np.array(colour) + 0.15 * 255)).max() < 2 for pixel in pixels)


def test_a_long_title_ends_before_the_legend() -> None:
    settings = {"objective": "factorvae", "gamma": 40, "discriminator_learning_rate": 0.001}
    models = [candidate("one", network(0), settings, mig=0.1), candidate("other", network(1), {"beta": 1}, mig=0.2)]
    figure = figure_of(models, compare_candidates(models, quiet), " ".join(["sweep of all the objectives"] * 2))
    figure.draw_without_rendering()
    (title,) = figure.findobj(lambda one: isinstance(one, Text) and one.get_text().startswith("sweep of"))
    assert not title.get_window_extent().overlaps(figure.legends[0].get_window_extent())


def test_models_on_pictures_of_different_sizes_are_compared_by_their_share_of_the_variance() -> None:
    small, large = candidate("small", network(0), {"image_size": 32}), candidate("large", network(1), {"seed": 1})
    large = replace(large, info=replace(large.info, likelihood="gaussian"))
    found = compare_candidates([small, large], quiet)
    assert found.notes == [
        "the models differ in the size or channels of their pictures or in their likelihood, so their losses in nats "
        "do not compare"
    ]
    assert sweep_figure([small, large], found, "sizes") != sweep_figure([small, small], found, "sizes")
    with pytest.raises(IncomparableModels, match="different numbers of pictures"):
        compare_candidates([small, replace(large, images=IMAGES[:50])], quiet)


def test_the_choice_needs_both_scores_and_two_dimensions() -> None:
    assert ranked([0.3, 0.5, 0.4], [0.5, 0.7, 0.9], [5, 5, 5]) == [1, 2, 0]
    assert ranked([0.9, 0.5, 0.4], [0.9, 0.7, 0.1], [1, 5, 0]) == [1, 0, 2]
    assert ranked([None, 0.5], [0.9, 0.1], [5, 5]) == [1, 0]
    assert ranked([None], [None], [0]) == [0]


def results() -> list[MemberResult]:
    def member(index: int, beta: int, seed: int, loss: float | None, mig: float | None) -> MemberResult:
        done = loss is not None
        return MemberResult(
            index=index,
            name=f"m {index}",
            settings={"beta": beta, "seed": seed},
            status="succeeded" if done else "failed",
            job=f"j-{index}",
            model=f"m-{index}" if done else None,
            metrics={"reconstruction_loss": loss, "kl": 2.0, "active_dimensions": [0, 1]} if done else {},
            scores={"mig": {"value": mig, "interval": [0.1, 0.3], "note": ""}} if done else {},
        )

    return [
        member(0, 1, 0, 10.0, 0.1),
        member(1, 4, 0, 20.0, None),
        member(2, 1, 1, 14.0, 0.3),
        member(3, 4, 1, None, None),
    ]


def test_each_cell_has_mean_and_deviation_over_its_seeds() -> None:
    first, second = cells_of(results())
    assert first["settings"] == {"beta": 1}
    assert (first["num_members"], first["num_models"]) == (2, 2)
    assert first["metrics"]["reconstruction_loss"] == {"mean": 12.0, "std": pytest.approx(8**0.5), "count": 2}
    assert first["metrics"]["active_dimensions"] == {"mean": 2, "std": 0, "count": 2}
    assert first["scores"]["mig"] == {"mean": pytest.approx(0.2), "std": pytest.approx(0.02**0.5), "count": 2}
    assert (second["num_members"], second["num_models"]) == (2, 1)
    assert second["metrics"]["reconstruction_loss"] == {"mean": 20.0, "std": None, "count": 1}
    assert second["scores"] == {}


def test_members_of_a_cell_are_found_whatever_the_order_and_the_kind_of_numbers() -> None:
    written = [{"seed": 0, "beta": 4, "gamma": 2.5}, {"gamma": 2.5, "beta": 4.0, "seed": 1}, {"beta": 4, "gamma": 2.4}]
    members = [replace(results()[0], settings=settings) for settings in written]
    assert [cell["num_members"] for cell in cells_of(members)] == [2, 1]
    models = [candidate(f"m{k}", network(k), settings, mig=0.1) for k, settings in enumerate(written)]
    assert compare_candidates(models, quiet).agreement == "cell"
    assert len(figure_of(models, compare_candidates(models, quiet), "cells").legends[0].get_texts()) == 3


def test_the_table_has_a_row_for_each_member() -> None:
    rows = list(csv.reader(io.StringIO(table_csv(results()))))
    assert rows[0] == ["member", "name", "job", "beta", "seed", "status", "model", "reconstruction_loss", "kl",
                       "active_dimensions", "mig", "mig_low", "mig_high"]  # fmt: skip
    assert rows[1] == ["0", "m 0", "j-0", "1", "0", "succeeded", "m-0", "10.0", "2.0", "2", "0.1", "0.1", "0.3"]
    assert rows[4] == ["3", "m 3", "j-3", "4", "1", "failed", "", "", "", "", "", "", ""]


@pytest.fixture
def services(tmp_path: Path, redis_server: str) -> Iterator[Runtime]:
    """The runtime of a worker, with a data set `squares`."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i in range(24):
        pixels = np.zeros((32, 32), np.uint8)
        x, y = rng.integers(2, 24, 2)
        pixels[y : y + 6, x : x + 6] = 255
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    settings = Settings(home=tmp_path / "home", redis_url=redis_server, device="cpu")
    services = open_runtime(settings)
    services.datasets.add_path("squares", folder)
    yield services
    services.jobs.redis.close()


def test_a_sweep_from_its_members_to_the_default_model(services: Runtime) -> None:
    members = []
    for seed in (0, 1):
        config = resolve(None, {"image_size": 32, "latent_dim": 2, "batch_size": 4, "num_steps": 6, "log_steps": 1,
                                "preview_steps": 0, "validation_fraction": 0.0, "seed": seed})  # fmt: skip
        job = {"dataset": "squares", "preset": None, "config": config_to_json(config), "evaluate": list[str]()}
        members.append(Member(name=f"squares {seed}", settings={"seed": seed}, request=job))
    request = {"dataset": "squares", "max_running": 1, "make_default": True}
    sweep = services.sweeps.create(request, members, name="squares")
    for job_id in sweep.job_ids:
        work_on(services, job_id)
    comparison = services.sweeps.view(sweep).comparison
    assert comparison is not None
    work_on(services, comparison.id)
    view = services.sweeps.view(sweep)
    assert (view.status, view.comparison and view.comparison.error) == ("succeeded", None)
    found = services.sweeps.comparison(sweep.id)
    assert found is not None
    assert found["winner"]["model"] == services.models.default_id()
    assert found["winner"]["model"] in {job.model for job in view.jobs if job}
    shown = results_of(sweep, view, found)
    assert [{"udr", "model_centrality"} <= member.scores.keys() for member in shown] == [True, True]
    assert [member.metrics["active_dimensions"] is not None for member in shown] == [True, True]
    for name in ("figure.png", "sheet.png"):
        assert Image.open(io.BytesIO(services.storage.read_bytes(f"sweeps/{sweep.id}/{name}"))).format == "PNG"


def test_a_worker_pauses_the_member_of_a_sweep_that_is_held(services: Runtime) -> None:
    members = [Member(name="squares", settings={"seed": 0}, request={"dataset": "squares", "config": {}})]
    sweep = services.sweeps.create({"max_running": 1, "dataset": "squares"}, members, name="squares")
    services.sweeps.pause(sweep.id)
    work_on(services, sweep.job_ids[0])
    assert services.jobs.get(sweep.job_ids[0]).status == "paused"
    services.sweeps.cancel(sweep.id)
    assert services.sweeps.view(sweep).status == "cancelled"


def test_a_comparison_without_models_fails_in_words(services: Runtime) -> None:
    members = [Member(name="squares", settings={"seed": 0}, request={"dataset": "squares", "config": {}})]
    sweep = services.sweeps.create({"max_running": 1, "dataset": "squares"}, members, name="squares")
    claim = services.jobs.claim(sweep.job_ids[0], "worker")
    assert claim is not None
    claim.succeed({}, model="gone")
    services.sweeps.advance(sweep.id)
    comparison = services.sweeps.view(sweep).comparison
    assert comparison is not None
    work_on(services, comparison.id)
    assert services.jobs.get(comparison.id).error == {
        "code": "unknown_model",
        "message": "There is no model with the id gone.",
    }
    assert services.sweeps.view(sweep).status == "succeeded"
