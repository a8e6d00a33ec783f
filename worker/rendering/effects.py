"""Effects of moving one latent dimension on decoded frames, in words and numbers; no torch."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.rendering.features import Array, Features, measure

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
"""Just noticeable change of each feature between two pictures; scores are multiples of it."""
_STEADY = 0.5
"""A feature has a direction if its net change, averaged over the starts, is at least this share of its range."""
_VISIBLE_HEAT = 0.03
_HALF_STRENGTH = 3.0
_MIN_CHROMA = 0.06
_AGREEING = 0.8
"""Smallest length of the mean of hues, as unit vectors, at which they count as one colour."""
_SMALL_OBJECT = 0.3
_HUES = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "sky blue", "blue", "violet", "magenta", "pink")
_WINDOWS = {
    "upper left": (0, 0), "upper middle": (0, 2), "upper right": (0, 4),
    "left": (2, 0), "centre": (2, 2), "right": (2, 4),
    "lower left": (4, 0), "lower middle": (4, 2), "lower right": (4, 4),
}  # fmt: skip
"""Row and column of the corner of windows of 4×4 cells."""


@dataclass(frozen=True, kw_only=True)
class DimensionEffect:
    """The effect of moving one dimension from end to end."""

    label: str
    """The effect in words; empty if nothing can be seen."""
    strength: float
    """Strength of the label from 0 to 1; 0 means no visible change, 0.25 a just noticeable and 0.5 a plain one."""
    changes: dict[str, float]
    """Net change of each feature, averaged over the starts, in the unit of the feature."""
    heat_map: list[list[float]]
    """The mean absolute change of the pixels, (8, 8), with the first row on top."""
    factor: dict[str, Any] | None = None
    """The factor that the dimension carries most information about: name, correlation (|r|), mutual_information (nats)
    and share (of the factor's entropy, corrected for chance). None without factors and for a collapsed dimension."""

    def to_json(self) -> dict[str, Any]:
        """Returns all fields as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Clause:
    """A part of a label. A label has at most one clause of a group."""

    text: str
    group: str
    score: float


def describe_frames(frames: NDArray[np.floating]) -> DimensionEffect:
    """Describes the effect that frames show.

    Args:
        frames: (N, T, H, W, C) in [0, 1], N rows of pictures along the same change.
    """
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
    """Returns every visible effect with its score, or else a region or a change of shape."""
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
    """Returns the net change in just noticeable steps, which is 0 without a steady direction."""
    net = abs(_net_change(values))
    span = float(np.ptp(values, axis=1).mean())
    return net / _UNITS[name] if net >= _STEADY * span else 0.0


def _motion(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    """Describes motion.

    Motion without a direction counts for half, because starts may move either way along one dimension.
    """
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
    """Describes a turn.

    A turn without a direction counts too, because starts may turn either way along one dimension.
    """
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
    # A turn makes a long object wider too, but does not change its length and breadth along its own axes.
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
        # One way from red to cyan leads through green and one through violet, so only the ends are compared.
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
    """Names the part of the picture that changes."""
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
