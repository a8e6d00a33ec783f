"""Effects of moving one latent dimension on decoded frames, in words and numbers; no torch."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from models.info import MAX_LABEL_LENGTH, MIN_VISIBLE_CHANGE
from worker.rendering.colours import JUST_VISIBLE, Array, colour_change, common_shade, in_plain_words, oklab
from worker.rendering.features import OWN_COLOUR, Features, measure
from worker.rendering.regions import Region, find_regions, overall_change, places_on_grid, seen_size

_UNITS = {"x": 0.05, "y": 0.05, "log_area": 0.2, "log_width": 0.15, "log_height": 0.15, "rotation": 0.2}
"""Just noticeable change of each feature between two pictures; scores are multiples of it."""
_STEADY = 0.5
"""A feature has a direction if its net change, averaged over the starts, is at least this share of its range."""
_UNSURE = 0.7
_WHOLE = 1.3
"""Weight of a direction of the whole picture beside the colours of a part of it."""
_ONE_WAY = 0.33
"""Smallest ratio of the net change of the regions of a place to the sum of their changes, for words of colour."""
_VISIBLE_HEAT = 0.03
"""Just noticeable change of the most changed cell of the heat map."""
_HALF_STRENGTH = 3.0
_MOST_CHANGED = 0.05
"""Share of the pixels, those that change most, over which `visible_change` is measured."""
_LARGE_AREA = 3.0
"""How much more visible a change of the whole picture is than the same change of a twentieth of it."""
_EXPLAINED = 0.4
"""Share of a change that a movement must explain, so that a label may name it."""
_STRIDE = 2
"""Distance in frames between two pictures of which the first is moved."""


@dataclass(frozen=True, kw_only=True)
class DimensionEffect:
    """The effect of moving one dimension from end to end."""

    label: str
    """The effect in words; empty if nothing can be seen."""
    strength: float
    """Strength of the label from 0 to 1; 0 means no visible change, 0.25 a just noticeable and 0.5 a plain one."""
    visible_change: float
    """Mean absolute difference of the two ends, in levels of 8 bits, averaged over the starts: over the twentieth of
    the pixels that differs most, or three times that over all pixels if this is more."""
    changes: dict[str, float]
    """Net change of each feature, averaged over the starts, in the unit of the feature."""
    heat_map: list[list[float]]
    """The mean absolute change of the pixels, (8, 8), with the first row on top."""
    factor: dict[str, Any] | None = None
    """The factor that the dimension carries most information about: name, correlation (|r|), mutual_information (nats)
    and share (of the factor's entropy, corrected for chance). None without factors and for a collapsed dimension."""
    details: tuple[str, ...] = ()
    """Weaker effects, the strongest first, which tell this dimension from another with the same label."""

    def to_json(self) -> dict[str, Any]:
        """Returns all fields but the details as plain JSON types."""
        fields = asdict(self)
        del fields["details"]
        return fields


@dataclass(frozen=True)
class _Clause:
    """A part of a label. A label has at most one clause of a group."""

    text: str
    group: str
    score: float
    """How conspicuous it is beside other clauses, in just noticeable steps."""
    size: float | None = None
    """Size of the change in just noticeable steps, if it differs from the score."""


def describe_frames(frames: NDArray[np.floating]) -> DimensionEffect:
    """Describes the effect that frames show.

    Args:
        frames: (N, T, H, W, C) in [0, 1], N rows of pictures along the same change.
    """
    features = measure(frames)
    changes = {name: _net_change(values) for name, values in features.values.items()}
    visible_change = _visible_change(frames)
    clauses = sorted(_clauses(frames, features, changes), key=lambda clause: -clause.score)
    label, strength, details = "", 0.0, []
    if visible_change >= MIN_VISIBLE_CHANGE:
        first = clauses[0]
        parts = [first, *_second(clauses)]
        label = ", ".join(clause.text for clause in parts)
        size = first.score if first.size is None else first.size
        strength = size / (size + _HALF_STRENGTH)
        places = {clause.group for clause in parts}
        weaker = [clause.text for clause in clauses if clause.group not in places or ": " not in clause.text]
        weaker += _tendencies(features, changes, places)
        details = [text for text in weaker if text not in label]
    return DimensionEffect(
        label=label,
        strength=round(strength, 3),
        visible_change=round(visible_change, 1),
        changes={name: round(change, 4) for name, change in changes.items() if name != "chroma"},
        heat_map=[[round(float(value), 4) for value in row] for row in features.heat],
        details=tuple(details),
    )


def _net_change(values: Array) -> float:
    return float((values[:, -1] - values[:, 0]).mean())


def _visible_change(frames: NDArray[np.floating]) -> float:
    """Returns DimensionEffect.visible_change."""
    differences = np.abs(frames[:, -1] - frames[:, 0]).max(-1).reshape(len(frames), -1)
    count = max(1, round(differences.shape[1] * _MOST_CHANGED))
    strongest = float(np.partition(differences, -count, axis=1)[:, -count:].mean())
    return 255 * min(1.0, max(strongest, _LARGE_AREA * float(differences.mean())))


def _second(clauses: list[_Clause]) -> list[_Clause]:
    """Returns the second clause of a label, if one of another group is strong enough beside the first and has room.

    Colours of two places are told apart more easily than two movements of a thing, so a weaker one is named.
    """
    first = clauses[0]

    def is_strong(other: _Clause) -> bool:
        both_colours = ": " in first.text and ": " in other.text
        return other.score >= (max(1.0, first.score / 4) if both_colours else max(2.0, first.score / 2))

    others = [c for c in clauses[1:] if c.group != first.group != "whole picture" and is_strong(c)]
    return [c for c in others if len(f"{first.text}, {c.text}") <= MAX_LABEL_LENGTH][:1]


def _clauses(frames: NDArray[np.floating], features: Features, changes: dict[str, float]) -> list[_Clause]:
    """Returns every visible effect with its score, or else the region that changes, or a change of shape."""
    if features.is_thing:
        shares = _explained_shares(features.weight, features.values)
        scores = {name: _score(name, features.values[name]) for name in _UNITS}
        found = [
            *(_motion(features, scores, changes) if shares["motion"] >= _EXPLAINED else []),
            *(_turning(features, scores, changes) if shares["turning"] >= _EXPLAINED else []),
            *_mirroring(features, shares),
            *(_size(features, scores, changes) if shares["size"] >= _EXPLAINED else []),
        ]
        found += _object_colour(features) if features.is_plain else _colours_of_parts(frames, features, bool(found))
        visible = [clause for clause in found if clause.score >= 1]
        return visible or [_Clause("shape changes", "where", float(features.heat.max()) / _VISIBLE_HEAT)]
    first, last = oklab(frames[:, 0]), oklab(frames[:, -1])
    return _region_clauses(find_regions(first, last), features) + _overall_clauses(first, last, features)


def _region_clauses(regions: list[Region], features: Features) -> list[_Clause]:
    """Returns a clause for each place; regions whose colours change alike, apart from shades, are one.

    The strongest region of a place has the word. Where regions of one place change in opposite directions, things move
    or change their shape there.
    """
    alike: dict[str, tuple[str, Region, float]] = {}
    for k, region in enumerate(regions):
        words, score = colour_change(region.first, region.last) if region.is_coherent else ("", 0.0)
        key = in_plain_words(words) or str(k)
        if key in alike:
            words, largest, score = alike[key]
            region = largest.joined(region)
        alike[key] = words, region, score
    places: dict[str, list[tuple[str, Region, float]]] = {}
    for words, region, score in sorted(alike.values(), key=lambda found: -found[1].share):
        places.setdefault(_named(region.places[0], features), []).append((words, region, score))
    changed = float(features.heat.max()) / _VISIBLE_HEAT
    clauses = []
    for place, found in places.items():
        words, region, score = found[0]
        share = sum(one.share for _, one, _ in found)
        if not words or not _agree([one for _, one, _ in found]):
            clauses.append(_Clause(f"{place} changes", place, changed * share))
        else:
            seen = float(seen_size(np.array(score * JUST_VISIBLE, np.float32))) / JUST_VISIBLE
            area = region.share**0.5
            clauses.append(_Clause(f"{place}: {words}", place, seen * area, score * area))
    return clauses


def _agree(regions: list[Region]) -> bool:
    """Returns whether the colours of regions change in about one direction, rather than in opposite ones."""
    changes = np.array([region.share * (region.last - region.first).mean(0) for region in regions])
    sizes = np.linalg.norm(changes, axis=1)
    return float(np.linalg.norm(changes.sum(0))) >= _ONE_WAY * float(sizes.sum())


def _named(place: str, features: Features) -> str:
    """Returns the name of a place, where a picture with a small object is called its background."""
    return "background" if features.has_object and place == "whole picture" else place


def _overall_clauses(first: Array, last: Array, features: Features) -> list[_Clause]:
    """Returns a clause for a change in one direction of everything that changes, if there is such a direction."""
    place, words, score = overall_change(first, last)
    place = _named(place, features)
    # Where everything gets lighter, the colours of a part of the picture say less.
    weight = _WHOLE if place == "whole picture" else 1.0
    return [_Clause(f"{place}: {words}", place, weight * score)] if words else []


def _object_colour(features: Features) -> list[_Clause]:
    first, last = features.object_colours[:, 0], features.object_colours[:, 1]
    words, score = colour_change(first, last)
    if words:
        words = common_shade(first, last) or words
        # Lighter or darker may be what a blurred outline looks like, so it gives way to movements of about its size.
        is_shade = not {"lighter", "darker"}.isdisjoint(words.split())
        return [_Clause(f"object: {words}", "colour", _UNSURE * score if is_shade else score)]
    return [_Clause("object: colour changes", "colour", score / 2)]


def _colours_of_parts(frames: NDArray[np.floating], features: Features, has_moved: bool) -> list[_Clause]:
    """Describes an object of several colours: what shows the object at both ends if it moves, else all that changes."""
    ends = oklab(frames[features.rows][:, [0, -1]])
    seen = features.weight[:, [0, -1]]
    is_own = (seen >= OWN_COLOUR * seen.max((2, 3), keepdims=True)).all(1).mean(0) > 0.5
    return _region_clauses(find_regions(ends[:, 0], ends[:, 1], is_own if has_moved else None), features)


def _score(name: str, values: Array) -> float:
    """Returns the net change in just noticeable steps, which is 0 without a steady direction."""
    net = abs(_net_change(values))
    span = float(np.ptp(values, axis=1).mean())
    return net / _UNITS[name] if net >= _STEADY * span else 0.0


def _motion(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
    """Describes motion.

    Motion without a direction counts for half, because starts may move either way along one dimension.
    """
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
    if scores["rotation"] > 0:
        way = "clockwise" if changes["rotation"] > 0 else "anticlockwise"
        return [_Clause(f"turns {way}", "turning", scores["rotation"])]
    span = float(np.ptp(features.values["rotation"], axis=1).mean())
    return [_Clause("turns", "turning", span / _UNITS["rotation"] / 2)]


def _mirroring(features: Features, shares: dict[str, float]) -> list[_Clause]:
    """Describes an object that ends as its mirror image, as things do that are seen from one side and then another."""
    score = shares["mirroring"] * float(features.heat.max()) / _VISIBLE_HEAT
    return [_Clause("turns the other way", "turning", score)] if shares["mirroring"] >= _EXPLAINED else []


def _size(features: Features, scores: dict[str, float], changes: dict[str, float]) -> list[_Clause]:
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


def _tendencies(features: Features, changes: dict[str, float], named: set[str]) -> list[str]:
    """Returns weak tendencies of a thing, the strongest first, and where else than in named places most changes."""
    found = []
    if features.is_thing:
        words = {
            "log_width": ("wider", "narrower"),
            "log_height": ("taller", "shorter"),
            "rotation": ("clockwise", "anticlockwise"),
        }
        sizes = {name: abs(changes[name]) / _UNITS[name] for name in words}
        ordered = sorted(words, key=lambda name: -sizes[name])
        found = [words[name][changes[name] < 0] for name in ordered if sizes[name] >= 0.25]
    places = [place for place in places_on_grid(features.heat**2) if place not in ("around the centre", *named)]
    return [*found, *(f"most at the {place}" for place in places[:4])]


def _explained_shares(weight: Array, values: dict[str, Array]) -> dict[str, float]:
    """Returns which share of the change between frames a movement explains, by kind: motion, size and turning.

    Motion is compared with leaving the object where it is. Size, turning and mirroring are compared with motion alone.
    The share is 1 − Σ(moved − next)² / Σ(reference − next)² over the pixels of all rows and of every second frame, and
    of both ends for mirroring.

    Args:
        weight: How much each pixel differs from the background, (N, T, H, W).
        values: The features of the object: x, y, log_width, log_height and rotation, each (N, T).
    """
    errors = dict.fromkeys(("still", "motion", "uniform", "size", "turning", "mirrored", "carried"), 0.0)
    num_rows, num_steps = weight.shape[:2]
    for row in range(num_rows):
        places = [{name: float(array[row, t]) for name, array in values.items()} for t in range(num_steps)]
        for begin in range(0, num_steps - _STRIDE, _STRIDE):
            end = begin + _STRIDE
            first, last, before, after = weight[row, begin], weight[row, end], places[begin], places[end]
            wide, tall = (after[name] - before[name] for name in ("log_width", "log_height"))
            ways = {
                "motion": np.eye(2),
                "uniform": np.eye(2) * np.exp((after["log_area"] - before["log_area"]) / 2),
                "size": np.diag(np.exp([tall, wide])),
                "turning": _turn(after["rotation"] - before["rotation"]),
            }
            errors["still"] += float(np.square(first - last).sum())
            for name, way in ways.items():
                errors[name] += float(np.square(_moved(first, before, after, way) - last).sum())
        for name, way in (("carried", np.eye(2)), ("mirrored", np.diag([1.0, -1.0]))):
            errors[name] += float(np.square(_moved(weight[row, 0], places[0], places[-1], way) - weight[row, -1]).sum())
    return {
        "motion": _share(errors["motion"], errors["still"]),
        "size": _share(min(errors["size"], errors["uniform"]), errors["motion"]),
        "turning": _share(errors["turning"], errors["motion"]),
        "mirroring": _share(errors["mirrored"], errors["carried"]),
    }


def _share(error: float, reference: float) -> float:
    return 1 - error / reference if reference > 0 else 0.0


def _turn(angle: float) -> NDArray[np.float64]:
    """Returns the matrix that turns (row, column) clockwise."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _moved(picture: Array, before: dict[str, float], after: dict[str, float], way: NDArray[Any]) -> Array:
    """Returns a picture (H, W) whose object is scaled or turned about its centre and carried to its next place."""
    size = np.array(picture.shape)
    old, new = (np.array([place["y"], place["x"]]) * size - 0.5 for place in (before, after))
    back = np.linalg.inv(way)
    moved: Array = affine_transform(picture, back, old - back @ new, order=1)
    return moved
