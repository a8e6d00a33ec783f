import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packs_support import write_pack
from sklearn.ensemble import GradientBoostingRegressor
from torch import Tensor, nn

from models.config import ConfigError, NetworkConfig
from models.info import Preprocessing
from models.networks import VAE
from models.posteriors import Gaussian
from training import summary
from training.data.packs import Pack, open_pack
from training.metrics import evaluation, points
from training.metrics.dci_es import dci_es
from training.metrics.evaluation import METRICS, encode_images, evaluate_agreement, evaluate_model
from training.metrics.factor_kinds import has_order, is_continuous
from training.metrics.names import ALL_METRICS, check_metrics
from training.metrics.points import dependence
from training.metrics.regression import dci_columns, sap_columns

SIZES = (3, 4, 5)
NAMES = ("shape", "x", "y")
SCORES = {
    "mig",
    "mig_sup",
    "modularity",
    "sap",
    "factor_vae",
    "beta_vae",
    "infomec_modularity",
    "infomec_compactness",
    "infomec_explicitness",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
}


class FakeNetwork(VAE):
    """A network whose code is the first pixels of a picture, and which decodes to an even grey."""

    def __init__(self, latent_dim: int, log_variances: list[float]) -> None:
        nn.Module.__init__(self)
        self.config = NetworkConfig(latent_dim=latent_dim)
        self._log_variances = torch.tensor(log_variances)
        self.images_encoded = 0

    def posterior(self, images: Tensor) -> Gaussian:
        return Gaussian(*self.encode(images))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.images_encoded += len(images)
        mean = images[:, 0, 0, : self.config.latent_dim] * 255 / 10
        return mean, self._log_variances.expand(len(mean), -1)

    def decoder(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        return torch.zeros(len(latents), 1, 8, 8)


def picture(factors: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Writes 8×8 pictures whose first pixels are ten times the factors."""
    images = np.zeros((len(factors), 8, 8, 1), dtype=np.uint8)
    images[:, 0, : factors.shape[1], 0] = factors * 10
    return images


@pytest.fixture
def make_pack(tmp_path: Path) -> Callable[..., Pack]:
    def make(
        factors: NDArray[np.int64],
        *,
        labelled: bool = True,
        split: NDArray[np.uint8] | None = None,
        values: NDArray[np.float64] | None = None,
    ) -> Pack:
        labels = {"factors": factors, "factor_names": NAMES[: factors.shape[1]], "factor_sizes": SIZES}
        write_pack(
            tmp_path / "set",
            [picture(factors)],
            preprocessing=Preprocessing(image_size=8),
            name="set",
            kind="array",
            source="test",
            split=split,
            values=values,
            **(labels if labelled else {}),
        )
        return open_pack(tmp_path / "set")

    return make


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "NUM_TRAIN", 300)
    monkeypatch.setattr(points, "NUM_TEST", 150)


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork(3, [0.0, -1.0, 0.0])


def grid_factors() -> NDArray[np.int64]:
    return np.stack(np.unravel_index(np.arange(math.prod(SIZES)), SIZES), axis=1)


def many_rows(num_rows: int = 1_000) -> NDArray[np.int64]:
    """Draws rows with independent factors, in which one combination never occurs."""
    factors = np.random.default_rng(0).integers(SIZES, size=(num_rows, 3))
    kept: NDArray[np.int64] = factors[(factors != [2, 3, 4]).any(1)]
    return kept


def test_a_factor_that_only_the_test_images_show_is_left_out(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    """A value that no training image shows, such as a rare attribute of CelebA, is unknown to the classifiers."""
    factors = many_rows()
    _, test_rows = points.own_rows(len(factors), 0)
    factors[:, 1] = 0
    factors[test_rows[0], 1] = 1
    result = evaluate_model(network, make_pack(factors), device="cpu", metrics=["mig", "sap", "dci", "modularity"])
    assert result.factor_names == ["shape", "y"]
    assert all(score.value is not None for score in result.scores.values())
    assert any("only one value in the training images: x" in note for note in result.notes)


def test_a_set_whose_factors_are_all_too_rare_has_no_scores(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    _, test_rows = points.own_rows(500, 0)
    factors = np.zeros((500, 3), np.int64)
    factors[test_rows[0]] = (1, 1, 0)
    factors[test_rows[1]] = (1, 0, 1)
    result = evaluate_model(network, make_pack(factors), device="cpu", metrics=["mig"])
    assert (result.scores, result.factor_names) == ({}, [])
    assert any("no scores" in note for note in result.notes)


def test_some_of_several_images_of_a_combination_are_reserved_for_the_test(
    make_pack: Callable[..., Pack], network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that are independent of the codes are predicted at chance, however often each image is drawn."""
    monkeypatch.setattr(points, "NUM_TRAIN", 3_000)
    rng = np.random.default_rng(0)
    pack = make_pack(rng.integers(0, 2, (300, 1)))
    codes = rng.normal(size=(300, 3)).astype(np.float32)
    monkeypatch.setattr(
        evaluation, "encode_images", lambda network, images, rows, **_: codes[rows] if rows is not None else codes
    )
    result = evaluate_model(network, pack, device="cpu", metrics=["dci"])
    value = result.scores["dci_informativeness"].value
    assert result.sampling == "grid"
    assert value is not None
    assert value < 0.65
    assert not any("also trained on" in note for note in result.notes)


def test_a_note_says_that_test_images_of_a_small_grid_were_trained_on(
    make_pack: Callable[..., Pack], network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "NUM_TRAIN", 300)
    pack = make_pack(np.repeat(grid_factors(), [50] + [1] * 59, axis=0))
    for metrics, said in ((["sap"], True), (["mig"], False)):
        result = evaluate_model(network, pack, device="cpu", metrics=metrics)
        assert any("also trained on" in note for note in result.notes) == said


def test_a_factor_with_thousands_of_values_is_left_out(
    make_pack: Callable[..., Pack], network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "_MAX_VALUES", 4)
    result = evaluate_model(network, make_pack(many_rows()), device="cpu", metrics=["mig"])
    assert result.factor_names == ["shape", "x"]
    assert any("more than 4 values: y" in note for note in result.notes)


def test_a_perfect_code_gets_every_score_on_a_grid(make_pack: Callable[..., Pack], network: FakeNetwork) -> None:
    result = evaluate_model(network, make_pack(np.repeat(grid_factors(), 2, axis=0)), device="cpu")

    assert result.sampling == "grid"
    assert result.scores.keys() == SCORES
    for name, score in result.scores.items():
        assert score.value is not None, name
        # A linear machine on one number cannot separate several ordered classes, so SAP is below 1 by definition.
        assert score.value > (0.3 if name == "sap" else 0.8), name
        if not name.startswith("infomec") and name not in ("dci_disentanglement", "dci_completeness"):
            assert score.interval is not None
            assert 0 <= score.interval[0] <= score.value + 1e-9
            assert score.value - 1e-9 <= score.interval[1] <= 1
    np.testing.assert_allclose(np.diag(result.correlation), 1)
    np.testing.assert_allclose(np.diag(result.mutual_information), result.factor_entropies)
    assert result.factor_names == list(NAMES)


def test_the_result_is_plain_json(make_pack: Callable[..., Pack], network: FakeNetwork) -> None:
    result = evaluate_model(network, make_pack(many_rows()), device="cpu", metrics=("mig", "factor_vae"))
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["scores"]["mig"]["value"] == result.scores["mig"].value
    assert data["kl_per_dimension"] == result.kl_per_dimension


def test_the_same_seed_gives_the_same_scores_whatever_else_is_requested(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    pack, few = make_pack(many_rows()), ("sap", "beta_vae")
    all_scores = evaluate_model(network, pack, device="cpu", metrics=("mig", *few), seed=3).scores
    assert {name: all_scores[name] for name in few} == evaluate_model(
        network, pack, device="cpu", metrics=few[::-1], seed=3
    ).scores


def test_losses_and_active_dimensions_have_their_closed_forms(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    factors = grid_factors()
    result = evaluate_model(network, make_pack(factors, labelled=False), device="cpu")

    assert (result.scores, result.sampling, result.correlation) == ({}, None, [])
    variance = np.exp([0.0, -1.0, 0.0])
    expected = 0.5 * ((factors**2).mean(0) + variance - np.log(variance) - 1)
    np.testing.assert_allclose(result.kl_per_dimension, expected, rtol=1e-5)
    assert result.kl == pytest.approx(expected.sum())
    assert result.active_dimensions == [0, 1, 2]
    assert result.reconstruction_loss == pytest.approx(64 * math.log(2))
    np.testing.assert_allclose(result.aggregate_mean, factors.mean(0), rtol=1e-5)
    assert (result.loss_images, result.num_loss_images) == ("sample", 60)
    errors = ((picture(factors) / 255 - 0.5) ** 2).mean((1, 2, 3))
    assert result.psnr == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-5)
    assert result.ssim is None  # The pictures are smaller than its window.


def test_losses_use_the_validation_split_if_there_is_one(make_pack: Callable[..., Pack], network: FakeNetwork) -> None:
    factors = grid_factors()
    split = (np.arange(len(factors)) % 3).astype(np.uint8)
    pack = make_pack(factors, labelled=False, split=split)
    result = evaluate_model(network, pack, device="cpu")
    assert (result.loss_images, result.num_loss_images) == ("validation", 20)
    np.testing.assert_allclose(result.aggregate_mean, factors[split == 1].mean(0), rtol=1e-5)
    given = evaluate_model(network, pack, device="cpu", validation=np.arange(7))
    assert (given.loss_images, given.num_loss_images) == ("given", 7)


def test_a_set_without_a_full_grid_is_scored_on_its_own_rows_with_a_note(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    result = evaluate_model(network, make_pack(many_rows()), device="cpu", metrics=METRICS[:-1])
    assert result.sampling == "rows"
    assert "not every combination" in result.notes[0]
    assert all(score.value is not None for score in result.scores.values())


def test_factors_that_depend_on_each_other_leave_the_intervention_scores_undefined(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    factors = many_rows()
    factors[:, 0] = factors[:, 1] % 3
    result = evaluate_model(network, make_pack(factors), device="cpu", metrics=("mig", "factor_vae", "beta_vae"))
    assert result.scores["mig"].value is not None
    for name in ("factor_vae", "beta_vae"):
        assert result.scores[name].value is None
        assert "depend" in result.scores[name].note


def test_a_value_that_few_images_show_leaves_the_intervention_scores_undefined(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    result = evaluate_model(network, make_pack(many_rows(150)), device="cpu", metrics=("sap", "factor_vae"))
    assert result.scores["sap"].value is not None
    assert result.scores["factor_vae"].value is None
    assert "fewer than 64" in result.scores["factor_vae"].note


def test_scores_that_compare_factors_or_dimensions_are_undefined_for_a_single_one(
    make_pack: Callable[..., Pack],
) -> None:
    pack = make_pack(np.column_stack([np.arange(300) % 3, np.zeros(300, dtype=np.int64)]))
    result = evaluate_model(FakeNetwork(1, [0.0]), pack, device="cpu")
    undefined = {name for name, score in result.scores.items() if score.value is None}
    assert undefined == {
        "mig", "mig_sup", "modularity", "sap", "beta_vae", "infomec_modularity", "infomec_compactness",
        "dci_disentanglement", "dci_completeness",
    }  # fmt: skip
    assert all(result.scores[name].note for name in undefined)
    assert result.factor_names == ["shape"]
    assert any("x" in note and "one value" in note for note in result.notes)


def test_every_image_is_encoded_once_and_progress_is_reported(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    pack, seen = make_pack(np.repeat(grid_factors(), 10, axis=0)), []
    evaluate_model(
        network,
        pack,
        device="cpu",
        metrics=("mig", "factor_vae", "beta_vae"),
        validation=np.arange(5),
        on_progress=lambda *progress: seen.append(progress),
    )
    assert network.images_encoded == 600 + 5
    assert [stage for stage, done, total in seen if done == total] == [
        "losses",
        "encoding",
        "mig",
        "factor_vae",
        "beta_vae",
    ]
    assert all(0 <= done <= total for _, done, total in seen)


@pytest.mark.parametrize("sampling", ["grid", "rows"])
def test_scores_that_need_few_images_encode_no_others(
    make_pack: Callable[..., Pack], network: FakeNetwork, sampling: str
) -> None:
    pack = make_pack(np.repeat(grid_factors(), 20, axis=0) if sampling == "grid" else many_rows(1_200))
    few = evaluate_model(network, pack, device="cpu", metrics=("mig", "sap"), validation=np.arange(5))
    assert network.images_encoded <= 450 + 5
    both = evaluate_model(network, pack, device="cpu", metrics=("mig", "sap", "factor_vae"), validation=np.arange(5))
    assert few.sampling == both.sampling == sampling
    assert few.scores == {name: both.scores[name] for name in few.scores}
    assert few.mutual_information == both.mutual_information


def test_an_exception_from_progress_ends_the_evaluation(make_pack: Callable[..., Pack], network: FakeNetwork) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "dci":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate_model(network, make_pack(many_rows(300)), device="cpu", metrics=("dci",), on_progress=stop)


def test_an_unknown_metric_is_named(make_pack: Callable[..., Pack], network: FakeNetwork) -> None:
    with pytest.raises(ValueError, match="migg"):
        evaluate_model(network, make_pack(grid_factors()), device="cpu", metrics=("migg",))


def test_encoding_in_batches_equals_encoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_network = VAE(NetworkConfig(image_size=32)).eval()
    images = np.random.default_rng(0).integers(256, size=(21, 32, 32, 1), dtype=np.uint8)
    with torch.no_grad():
        expected = torch_network.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)[0].numpy()
    monkeypatch.setattr(summary, "_CPU_ENCODING_BATCH", 8)
    np.testing.assert_allclose(encode_images(torch_network, images, device="cpu"), expected, atol=1e-5)
    rows = np.array([20, 3, 3])
    np.testing.assert_allclose(encode_images(torch_network, images, rows, device="cpu"), expected[rows], atol=1e-5)


def test_dependence_is_zero_for_independent_factors_and_one_for_copies() -> None:
    factors = np.random.default_rng(0).integers([5, 30], size=(2_000, 2))
    assert dependence(factors) < 0.01
    assert dependence(factors[:, [1, 1]]) > 0.9


def test_networks_agree_with_a_permuted_copy_and_not_with_one_that_ignores_its_input(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    class Turned(FakeNetwork):
        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = super().encode(images)
            return -2 * mean.flip(1), log_variance

    class Blind(FakeNetwork):
        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = super().encode(images)
            return torch.zeros_like(mean), torch.zeros_like(log_variance)

    pack, spread = make_pack(many_rows(), labelled=False), [0.0, -1.0, 0.0]
    networks = [network, Turned(3, spread), Blind(3, spread)]
    scores = evaluate_agreement(networks, pack, device="cpu", num_images=500)
    assert scores.pairwise[0, 1] > 0.8
    assert scores.pairwise[0, 2] == 0
    assert [n.images_encoded for n in networks] == [500] * 3


def continuous_rows() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draws rows of a class and of a quantity, whose ranks are of another shape than its values."""
    rng = np.random.default_rng(0)
    quantity = np.round(rng.uniform(0, 1, 600) ** 3 * 24) + 0.5
    quantity += rng.uniform(0, 1e-3, 600)
    factors = np.stack([rng.integers(3, size=600), np.argsort(np.argsort(quantity))], axis=1)
    return factors, np.stack([np.full(600, np.nan), quantity], axis=1)


def encode_as(codes: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes codes[i] the code of picture i."""
    monkeypatch.setattr(
        evaluation, "encode_images", lambda network, images, rows, **_: codes if rows is None else codes[rows]
    )


def test_continuous_labels_are_scored_by_regressors(
    make_pack: Callable[..., Pack], network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors, values = continuous_rows()
    encode_as(np.stack([factors[:, 0], values[:, 1], values[:, 1] * 0], axis=1), monkeypatch)
    result = evaluate_model(
        network, make_pack(factors % 256, values=values), device="cpu", metrics=["mig", "sap", "dci", "factor_vae"]
    )
    scores = {name: score.value for name, score in result.scores.items()}
    assert any("continuous" in note and note.endswith(": x") for note in result.notes)
    assert result.correlation[1][1] == pytest.approx(1)  # With the values, and not with their ranks or bins.
    assert scores["dci_informativeness"] == pytest.approx(1, abs=0.01)
    assert scores["dci_disentanglement"] == pytest.approx(1, abs=0.01)
    alone = evaluate_model(
        network, make_pack(factors[:, 1:] % 256, values=values[:, 1:]), device="cpu", metrics=["sap", "dci"]
    ).scores
    assert alone["sap"].value == pytest.approx(1 - np.corrcoef(factors[:, 0], values[:, 1])[0, 1] ** 2, abs=0.02)
    assert alone["dci_completeness"].value == pytest.approx(1, abs=0.01)
    assert scores["sap"] is not None
    assert scores["sap"] > 0.5
    assert scores["factor_vae"] is None
    assert "continuous" in result.scores["factor_vae"].note


def test_regressors_of_continuous_factors_follow_the_published_recipe() -> None:
    rng = np.random.default_rng(0)
    codes, test_codes = rng.normal(size=(2, 200, 3))
    codes[:, 2] = test_codes[:, 2] = 0
    weights = np.array([[1.0, 0.2], [0.1, -2.0], [0.0, 0.0]])
    numbers, test_numbers = codes @ weights + 0.1, test_codes @ weights + 0.1
    importance, r2 = dci_columns(codes, numbers, test_codes, test_numbers)
    for k in range(2):
        model = GradientBoostingRegressor(random_state=0).fit(codes, numbers[:, k])
        np.testing.assert_allclose(importance[:, k], model.feature_importances_)
        residual = ((model.predict(test_codes) - test_numbers[:, k]) ** 2).sum()
        assert r2[k] == pytest.approx(1 - residual / ((test_numbers[:, k] - test_numbers[:, k].mean()) ** 2).sum())
        for d in range(3):
            covariance = np.cov(codes[:, d], numbers[:, k], ddof=1)
            expected = covariance[0, 1] ** 2 / covariance[0, 0] / covariance[1, 1] if d < 2 else 0
            assert sap_columns(codes, numbers)[d, k] == pytest.approx(expected)


def test_regressors_never_tell_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 100, 1))
    assert dci_columns(*noise)[1].tolist() == [0]


@pytest.mark.parametrize(
    ("num_values", "num_pictures", "expected"),
    [(6, 1_000, False), (40, 1_000, False), (65, 10_000, True), (64, 10_000, False), (11, 100, True), (2, 10, False)],
)
def test_a_quantity_is_continuous_if_its_values_are_many(num_values: int, num_pictures: int, expected: bool) -> None:
    assert is_continuous(np.resize(np.linspace(0.5, 9, num_values), num_pictures)) == expected


def test_the_order_of_published_factors_is_known() -> None:
    assert has_order("builtin", "scale")
    assert not has_order("dsprites", "shape")
    assert not has_order("array", "factor_1")  # Classes, for all that is known.


def test_the_scores_that_must_be_asked_for_have_a_value_each(
    make_pack: Callable[..., Pack], network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.metrics.scorers.dci_es", partial(dci_es, num_trees=3))
    factors = np.stack(np.unravel_index(np.arange(24), (2, 3, 4)), axis=1)
    pack = make_pack(np.repeat(factors, 5, axis=0))
    scores = evaluate_model(network, pack, device="cpu", metrics=["dci_es", "infogan_cr", "tad"]).scores
    values = {name: score.value for name, score in scores.items()}
    assert values.pop("tad") == pytest.approx(0.5, abs=0.1)
    assert values.pop("tad_captured") == 1
    assert values.pop("dci_es_size") == 1
    assert values.pop("dci_es_explicitness") == pytest.approx(0.95, abs=0.1)
    assert len(values) == 7
    assert values.pop("infogan_cr_sap") == pytest.approx(0.6, abs=0.3)  # A linear machine does not tell four classes.
    for name, value in values.items():
        assert value is not None, name
        assert value > 0.8, name


def test_the_scores_that_must_be_asked_for_say_what_they_lack(
    make_pack: Callable[..., Pack], network: FakeNetwork
) -> None:
    pack = make_pack(grid_factors()[:, :1].repeat(2, axis=0))
    scores = evaluate_model(network, pack, device="cpu", metrics=["tad", "infogan_cr"]).scores
    assert {score.value for score in scores.values()} == {None}
    assert scores["tad"].note == "needs attributes of two values"
    assert "two factors" in scores["infogan_cr_sap"].note


def test_a_near_name_is_suggested() -> None:
    assert check_metrics(None) == check_metrics(True) == METRICS
    assert check_metrics(list(ALL_METRICS[::-1])) == ALL_METRICS
    for wrong, meant in (("dci-es", "dci_es"), ("migg", "mig"), ("InfoGAN-CR", "infogan_cr"), ("TAD", "tad")):
        with pytest.raises(ConfigError, match=f"did you mean {meant}\\?"):
            check_metrics([wrong])
    with pytest.raises(ConfigError, match="has no score 'fid'; there are"):
        check_metrics(["fid"])
