"""Names for latent dimensions: what moving each one changes, measured on decoded frames.

On any model: a short label ("moves right", "background lighter", "lower left changes") with its strength and a heat
map. On a set with factors: also the factor that the dimension knows most of.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics.cluster import expected_mutual_information

from models.info import ACTIVE_KL_NATS, ModelInfo
from models.networks import VAE
from training.data.packs import Pack
from training.metrics.evaluation import encode_images
from training.metrics.information import bins_of, compact, correlation, factor_entropy, mutual_information
from training.summary import SUMMARY_IMAGES, floor_of, summarise
from worker.rendering.features import Array, Features, measure

NUM_STARTS, NUM_STEPS = 16, 7
_MEASURED_PX = 64
"""Larger frames are averaged down to this: what a label says shows at 64 px."""
SPAN = 2.0
"""Each dimension is moved from −SPAN to SPAN, in units of the prior's σ."""
FACTOR_IMAGES = 10_000
MIN_FACTOR_SHARE = 0.02
"""Of a factor's entropy: a dimension that knows less of every factor has no best one."""

_UNITS = {
    "x": 0.05,
    "y": 0.05,
    "log_area": 0.2,
    "log_width": 0.15,
    "log_height": 0.15,
    "rotation": 0.2,
    "ground_brightness": 0.06,
    "object_brightness": 0.08,
    "brightness": 0.06,
    "border_brightness": 0.06,
    "centre_brightness": 0.06,
    "hue": 0.35,
    "saturation": 0.06,
}
"""The change of a feature that an eye just notices between two pictures; scores are multiples of it."""
_STEADY = 0.5
"""A feature has a direction when its net change is at least this share of its range, averaged over the starts."""
_VISIBLE_HEAT = 0.03
_HALF_STRENGTH = 3.0
_MIN_CHROMA = 0.06
_AGREEING = 0.8
"""Ends are of one colour where the mean of their hues, as unit vectors, is at least so long."""
_SMALL_OBJECT = 0.3
_HUES = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "sky blue", "blue", "violet", "magenta", "pink")
_WINDOWS = {
    "upper left": (0, 0), "upper middle": (0, 2), "upper right": (0, 4),
    "left": (2, 0), "centre": (2, 2), "right": (2, 4),
    "lower left": (4, 0), "lower middle": (4, 2), "lower right": (4, 4),
}  # fmt: skip
"""Windows of 4×4 cells by the row and column of their corner."""


@dataclass(frozen=True, kw_only=True)
class DimensionEffect:
    """What moving one dimension from −SPAN to SPAN does.

    label: in words, empty where nothing can be seen. strength: of the label, 0 (nothing to see), 0.25 (just seen),
    0.5 (plain), towards 1. changes: net change of each feature, averaged over the starts, in the feature's unit.
    heat_map: (8, 8) mean absolute change of the pixels, first row on top. factor: name, correlation |r|,
    mutual_information in nats and share, of the factor's entropy, less what chance gives (adjusted mutual
    information); None without factors, and for a collapsed dimension.
    """

    label: str
    strength: float
    changes: dict[str, float]
    heat_map: list[list[float]]
    factor: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Clause:
    """Part of a label. Clauses of one group exclude each other."""

    text: str
    group: str
    score: float


def label_model(
    network: VAE, info: ModelInfo, pack: Pack | None = None, *, device: torch.device | str = "cpu", seed: int = 0
) -> ModelInfo:
    """A model's description with dimension_effects and dimension_labels filled in.

    A label that a person wrote (one that is not the previous effect's) stays. With a packed set, frames start at its
    images and its factors are named; without one, they start at draws from the aggregate posterior, else the prior.
    """
    effects = measure_effects(network, _starts(network, info, pack, torch.device(device), seed))
    if pack is not None and pack.factors is not None and pack.factors.shape[1]:
        effects = _with_factors(effects, network, pack, torch.device(device), seed)
        # The mean of a collapsed dimension may follow a factor, far below its noise: nothing can be read from it.
        for k, kl in enumerate(info.kl_per_dimension):
            if kl < ACTIVE_KL_NATS:
                effects[k] = replace(effects[k], factor=None)
    labels = [effect.label for effect in effects]
    before = [effect.get("label", "") for effect in info.dimension_effects] or [""] * len(labels)
    for k, label in enumerate(info.dimension_labels):
        if label and label != before[k]:
            labels[k] = label
    return replace(info, dimension_labels=labels, dimension_effects=[effect.to_json() for effect in effects])


def with_statistics(
    network: VAE, info: ModelInfo, pack: Pack, *, device: torch.device | str, seed: int = 0
) -> ModelInfo:
    """The description with losses, KL per dimension and the aggregate posterior over a sample of a packed set."""
    count = len(pack.images)
    indices = np.sort(np.random.default_rng(seed).permutation(count)[:SUMMARY_IMAGES])
    found = summarise(network, pack.images, indices, info.likelihood, torch.device(device))
    dataset = {"id": pack.info.id, "name": pack.info.name, "digest": pack.info.digest, "num_images": count}
    floor = floor_of(pack.images, indices, info.likelihood)
    return replace(info, dataset=info.dataset or dataset, bernoulli_floor=floor, **found)


@torch.inference_mode()
def measure_effects(network: VAE, starts: torch.Tensor) -> list[DimensionEffect]:
    """What moving each dimension changes.

    Args: starts, (N, D) latents on the network's device; each dimension is moved from each of them, the others stay.
    """
    N, D = starts.shape
    values = torch.linspace(-SPAN, SPAN, NUM_STEPS, device=starts.device)
    effects = []
    for k in range(D):
        latents = starts[:, None].repeat(1, NUM_STEPS, 1)
        latents[:, :, k] = values
        images = network.decode(latents.reshape(-1, D))
        if images.shape[-1] > _MEASURED_PX:
            images = torch.nn.functional.avg_pool2d(images, images.shape[-1] // _MEASURED_PX)
        frames = images.permute(0, 2, 3, 1).float().cpu().numpy()
        effects.append(describe_frames(frames.reshape(N, NUM_STEPS, *frames.shape[1:])))
    return effects


def describe_frames(frames: NDArray[np.floating]) -> DimensionEffect:
    """The effect that frames (N, T, H, W, C) in [0, 1] show: N rows of pictures along the same change."""
    features = measure(frames)
    changes = {name: _net_change(values) for name, values in features.values.items()}
    clauses = sorted(_clauses(features, changes), key=lambda clause: -clause.score)
    label, strength = "", 0.0
    if features.heat.max() >= _VISIBLE_HEAT and clauses:
        first = clauses[0]
        second = [c for c in clauses[1:] if c.group != first.group and c.score >= max(2.0, first.score / 2)]
        label = ", ".join(clause.text for clause in [first, *second[:1]])
        strength = first.score / (first.score + _HALF_STRENGTH)
    return DimensionEffect(
        label=label,
        strength=round(strength, 3),
        changes={name: round(change, 4) for name, change in changes.items() if name != "chroma"},
        heat_map=[[round(float(value), 4) for value in row] for row in features.heat],
    )


def _net_change(values: Array) -> float:
    return float((values[:, -1] - values[:, 0]).mean())


def _clauses(features: Features, changes: dict[str, float]) -> list[_Clause]:
    """Everything that could be said, with its score; a region, or a change of shape, where nothing better can be."""
    scores = {name: _score(name, values) for name, values in features.values.items() if name in _UNITS}
    found = [
        *_motion(features, scores, changes),
        *_turning(features, scores, changes),
        *_size(features, scores, changes),
        *_light(scores, changes),
        *_colour(features, scores, changes),
    ]
    visible = [clause for clause in found if clause.score >= 1]
    return visible or [_where(features)]


def _score(name: str, values: Array) -> float:
    """Net change in just noticeable steps; 0 where it has no steady direction."""
    net = abs(_net_change(values))
    span = float(np.ptp(values, axis=1).mean())
    return net / _UNITS[name] if net >= _STEADY * span else 0.0


def _motion(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    """Motion counts without a direction too, for half: starts may move either way along one dimension."""
    if "x" not in scores:
        return []
    across, down = scores["x"], scores["y"]
    ways = []
    if down >= max(1.0, across / 2.5):
        ways.append("down" if changes["y"] > 0 else "up")
    if across >= max(1.0, down / 2.5):
        ways.append("right" if changes["x"] > 0 else "left")
    spans = {name: float(np.ptp(features.values[name], axis=1).mean()) / _UNITS[name] / 2 for name in "xy"}
    clauses = [_Clause("moves", "motion", float(np.hypot(spans["x"], spans["y"])))]
    if ways:
        clauses.append(_Clause("moves " + " and ".join(ways), "motion", float(np.hypot(across, down))))
    return clauses


def _turning(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    """A turn counts without a direction too: starts may turn either way along one dimension."""
    if "rotation" not in features.values:
        return []
    if scores["rotation"] > 0:
        way = "clockwise" if changes["rotation"] > 0 else "anticlockwise"
        return [_Clause(f"turns {way}", "turning", scores["rotation"])]
    span = float(np.ptp(features.values["rotation"], axis=1).mean())
    return [_Clause("turns", "turning", span / _UNITS["rotation"] / 2)]


def _size(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    if "log_area" not in scores:
        return []
    # A turn makes a long thing wider too, and leaves its own length and breadth as they are.
    own = max(float(np.ptp(features.values[name], axis=1).mean()) for name in ("log_length", "log_breadth"))
    most = 1.5 * own / _UNITS["log_width"]
    wide, tall = min(scores["log_width"], most), min(scores["log_height"], most)
    width = _Clause("gets wider" if changes["log_width"] > 0 else "gets narrower", "size", wide)
    height = _Clause("gets taller" if changes["log_height"] > 0 else "gets shorter", "size", tall)
    clauses = [_Clause("grows" if changes["log_area"] > 0 else "shrinks", "size", scores["log_area"])]
    if wide > 2 * tall:
        clauses.append(width)
    elif tall > 2 * wide:
        clauses.append(height)
    elif changes["log_width"] * changes["log_height"] < 0:
        other = height.text.removeprefix("gets ")
        clauses.append(_Clause(f"{width.text} and {other}", "size", float(np.hypot(wide, tall))))
    return clauses


def _light(scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    def clause(subject: str, name: str) -> _Clause:
        return _Clause(f"{subject}{'lighter' if changes[name] > 0 else 'darker'}", "light", scores[name])

    if "ground_brightness" in scores:
        return [clause("background ", "ground_brightness"), clause("object ", "object_brightness")]
    border, centre = abs(changes["border_brightness"]), abs(changes["centre_brightness"])
    if border > 2 * centre:
        return [clause("background ", "border_brightness")]
    if centre > 2 * border:
        return [clause("centre ", "centre_brightness")]
    return [clause("", "brightness")]


def _colour(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    if "hue" not in scores:
        return []
    clauses = [_Clause("more colourful" if changes["saturation"] > 0 else "paler", "colour", scores["saturation"])]
    if features.values["chroma"][:, [0, -1]].mean(0).min() >= _MIN_CHROMA:
        # From red to cyan leads one way by green and one by violet: what counts is where it begins and ends.
        first, last = np.exp(1j * features.values["hue"][:, [0, -1]]).T
        turned = float(np.abs(np.angle(last / first)).mean()) / _UNITS["hue"]
        end = last.mean()
        if abs(end) >= _AGREEING:
            name = _HUES[round(float(np.angle(end)) / (2 * np.pi) * len(_HUES)) % len(_HUES)]
            clauses.append(_Clause(f"turns {name}", "colour", turned))
        else:
            clauses.append(_Clause("hue changes", "colour", max(scores["hue"], turned / 2)))
    return clauses


def _where(features: Features) -> _Clause:
    """Which part of the picture changes."""
    heat = features.heat
    score = float(heat.max()) / _VISIBLE_HEAT
    if features.has_object and features.extent < _SMALL_OBJECT:
        return _Clause("shape changes", "where", score)
    energy = heat**2 / max(float((heat**2).sum()), 1e-12)
    shares = {name: float(energy[r : r + 4, c : c + 4].sum()) for name, (r, c) in _WINDOWS.items()}
    best = max(shares, key=lambda name: shares[name])
    if shares[best] >= 0.6:
        return _Clause(f"{best} changes", "where", score)
    halves = {
        "upper half": energy[:4].sum(),
        "lower half": energy[4:].sum(),
        "left half": energy[:, :4].sum(),
        "right half": energy[:, 4:].sum(),
        "edge": 1 - energy[1:-1, 1:-1].sum(),
    }
    best = max(halves, key=lambda name: float(halves[name]))
    if halves[best] >= 0.75:
        return _Clause(f"{best} changes", "where", score)
    return _Clause("shape changes" if features.has_object else "whole picture changes", "where", score)


def _starts(network: VAE, info: ModelInfo, pack: Pack | None, device: torch.device, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    D = network.config.latent_dim
    count = max(4, min(NUM_STARTS, 512 // D))  # 256 dimensions would take minutes on a CPU.
    if pack is not None:
        indices = np.sort(rng.permutation(len(pack.images))[:count])
        return torch.from_numpy(encode_images(network, pack.images, indices, device=device)).to(device)
    draws = rng.standard_normal((count, D))
    if info.aggregate_std:
        draws = draws * np.array(info.aggregate_std) + np.array(info.aggregate_mean)
    return torch.from_numpy(draws.astype(np.float32)).to(device)


def _with_factors(
    effects: list[DimensionEffect], network: VAE, pack: Pack, device: torch.device, seed: int
) -> list[DimensionEffect]:
    assert pack.factors is not None
    rows = np.sort(np.random.default_rng(seed).permutation(len(pack.images))[:FACTOR_IMAGES])
    codes = encode_images(network, pack.images, rows, device=device)
    best = best_factors(codes, np.asarray(pack.factors)[rows], list(pack.info.factor_names))
    return [_name_by_factor(replace(e, factor=factor)) for e, factor in zip(effects, best, strict=True)]


def best_factors(
    codes: NDArray[np.floating], factors: NDArray[np.integer], names: list[str]
) -> list[dict[str, Any] | None]:
    """For each dimension the factor that it tells most of; None where that is too little.

    Args: codes, (N, D); factors, (N, F) class indices; names, F of them.
    Returns: D entries: name, correlation (|r|), mutual_information (nats), share.
    """
    indices = compact(factors)
    information, entropies = mutual_information(codes, indices), factor_entropy(indices)
    bins = bins_of(codes)
    chance = np.array([[_chance(code, factor) for factor in indices.T] for code in bins.T])
    room = np.maximum(entropies - chance, 1e-9)
    shares = np.clip((information - chance) / room, 0, 1) * (entropies > 1e-9)
    correlations = correlation(codes, indices)
    found: list[dict[str, Any] | None] = []
    # A factor with an order may show in r long before there are images enough to show it in information.
    evidence = np.maximum(shares, correlations**2 - _chance_r2(len(codes)))
    for k, f in enumerate(evidence.argmax(1)):
        entry = {
            "name": names[f],
            "correlation": round(float(correlations[k, f]), 4),
            "mutual_information": round(float(information[k, f]), 4),
            "share": round(float(shares[k, f]), 4),
        }
        found.append(entry if evidence[k, f] >= MIN_FACTOR_SHARE else None)
    return found


def _chance(code: NDArray[np.int64], factor: NDArray[np.int64]) -> float:
    """Mutual information that two columns seem to have, in nats, when their values are shuffled: much in few rows."""
    table = np.zeros((int(code.max()) + 1, int(factor.max()) + 1), dtype=np.int64)
    np.add.at(table, (code, factor), 1)
    table = table[table.any(1)][:, table.any(0)]
    return float(expected_mutual_information(table, len(code)))


def _chance_r2(num_points: int) -> float:
    """r² that unrelated columns stay below, 19 times of 20."""
    return 3.84 / num_points


def _name_by_factor(effect: DimensionEffect) -> DimensionEffect:
    """Where frames only tell that something changes and a factor is known well, the factor names it."""
    vague = effect.label.endswith("changes")
    if vague and effect.factor is not None and (effect.factor["share"] >= 0.4 or effect.factor["correlation"] >= 0.8):
        return replace(effect, label=f"{effect.factor['name']} changes"[:60])
    return effect
