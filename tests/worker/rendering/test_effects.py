"""Effects: frames with a known change get the label for it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.rendering.effects import describe_frames

T = 7


Picture = NDArray[np.float32]


def disc(x: float, y: float, radius: float = 0.12, stretch: float = 1.0, light: float = 1.0) -> Picture:
    """Draws a soft disc on black, (64, 64, 1); positions and sizes are shares of the side."""
    grid = (np.arange(64) + 0.5) / 64
    distance = np.hypot((grid[None] - x) / stretch, grid[:, None] - y)
    picture: Picture = (light * np.clip((radius - distance) * 64 + 0.5, 0, 1))[..., None].astype(np.float32)
    return picture


def bar(angle: float, x: float, y: float) -> Picture:
    """Draws a bar that is turned clockwise by an angle."""
    grid = (np.arange(64) + 0.5) / 64
    dx, dy = grid[None] - x, grid[:, None] - y
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy
    picture: Picture = ((np.abs(along) < 0.2) & (np.abs(across) < 0.05))[..., None].astype(np.float32)
    return picture


def photograph(seed: int) -> Picture:
    """Draws a picture without an even background, (64, 64, 3)."""
    coarse = np.random.default_rng(seed).uniform(0.3, 0.7, (8, 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.float32)


def frames(draw: Callable[[float, int], Picture]) -> Picture:
    """Returns (N, T, H, W, C) frames drawn by draw(t, start), t from −1 to 1."""
    return np.stack([np.stack([draw(t, n) for t in np.linspace(-1, 1, T)]) for n in range(4)])


def base(n: int) -> tuple[float, float]:
    return 0.4 + 0.05 * n, 0.6 - 0.05 * n


MOVES: dict[str, Callable[[float, int], Picture]] = {
    "moves right": lambda t, n: disc(base(n)[0] + 0.15 * t, base(n)[1]),
    "moves left": lambda t, n: disc(base(n)[0] - 0.15 * t, base(n)[1]),
    "moves down": lambda t, n: disc(base(n)[0], base(n)[1] + 0.15 * t),
    "moves up": lambda t, n: disc(base(n)[0], base(n)[1] - 0.15 * t),
    "moves up and right": lambda t, n: disc(base(n)[0] + 0.1 * t, base(n)[1] - 0.1 * t),
    "grows": lambda t, n: disc(*base(n), radius=0.12 * 1.5**t),
    "shrinks": lambda t, n: disc(*base(n), radius=0.12 * 1.5**-t),
    "gets wider": lambda t, n: disc(*base(n), stretch=1.3 + 0.25 * t),
    "turns clockwise": lambda t, n: bar(0.3 * n + 0.5 * t, *base(n)),
    "turns anticlockwise": lambda t, n: bar(0.3 * n - 0.5 * t, *base(n)),
    "object: white → dark grey": lambda t, n: disc(*base(n), light=0.6 - 0.3 * t),
}


@pytest.mark.parametrize("label", MOVES)
def test_the_effects_on_an_object_are_named(label: str) -> None:
    effect = describe_frames(frames(MOVES[label]))
    assert effect.label.split(", ")[0] == label
    assert 0.25 <= effect.strength < 1


def test_the_effects_on_the_background_are_named() -> None:
    ground = frames(lambda t, n: np.maximum(disc(*base(n)), np.float32(0.4 + 0.2 * t)))
    assert describe_frames(ground).label == "background: black → grey"


def _rest_lighter(t: float, n: int) -> Picture:
    picture = photograph(n) + np.float32(0.2 * t)
    picture[16:48, 16:48] = photograph(n)[16:48, 16:48]
    return picture


def _painted(rows: slice, columns: slice, first: str, last: str) -> Callable[[float, int], Picture]:
    """Draws a part of the picture that fades from one colour, in hexadecimal, to another."""
    ends = [np.array(list(bytes.fromhex(colour)), np.float32) / 255 for colour in (first, last)]

    def draw(t: float, n: int) -> Picture:
        picture = photograph(n)
        picture[rows, columns] = ends[0] + (t + 1) / 2 * (ends[1] - ends[0])
        return picture

    return draw


def _face(t: float, n: int) -> Picture:
    """Draws a head on pink whose long hair fades in, over shoulders that reach the border."""
    picture = np.full((64, 64, 3), (1.0, 0.84, 0.86), np.float32)
    grid = np.arange(64)
    radius = np.hypot(grid[None] - 32, grid[:, None] - 28)
    hair = (radius < 24 + n % 2) & (radius >= 14)
    picture[hair] += np.float32((t + 1) / 2) * (np.array([0.35, 0.2, 0.1], np.float32) - picture[hair])
    picture[radius < 14] = (0.9, 0.7, 0.5)
    picture[52:, 12:52] = (0.2, 0.3, 0.7)
    return picture


def _region(rows: slice, columns: slice) -> Callable[[float, int], Picture]:
    """Draws a pattern of stripes that slides inside a region, without a change of light or colour."""

    def draw(t: float, n: int) -> Picture:
        picture = photograph(n)
        stripes = 0.5 + 0.3 * np.sin(np.arange(64) / 2 + 2 * t)
        picture[rows, columns] = stripes[columns, None]
        return picture

    return draw


PHOTOGRAPHS: dict[str, Callable[[float, int], Picture]] = {
    "background: dark grey → light grey": _rest_lighter,
    "whole picture: lighter": lambda t, n: photograph(n) + np.float32(0.2 * t),
    "whole picture: darker": lambda t, n: photograph(n) - np.float32(0.2 * t),
    "top: brown → blue": _painted(slice(0, 20), slice(10, 54), "7a4a28", "3050d0"),
    "lower middle: white → black": _painted(slice(34, 62), slice(18, 46), "ffffff", "080808"),
    "around the centre: pink → brown": _face,
    "lower left changes": _region(slice(36, 60), slice(4, 28)),
    "upper right changes": _region(slice(4, 28), slice(36, 60)),
    "lower middle changes": _region(slice(36, 60), slice(20, 44)),
    "whole picture: red → blue": lambda t, n: (
        photograph(n) * 0.2 + np.array([0.5 - 0.3 * t, 0.2, 0.5 + 0.3 * t], np.float32).reshape(1, 1, 3)
    ),
}


@pytest.mark.parametrize("label", PHOTOGRAPHS)
def test_the_effects_on_uneven_pictures_are_named(label: str) -> None:
    assert label in describe_frames(frames(PHOTOGRAPHS[label])).label.split(", ")


def test_a_change_of_saturation_is_named() -> None:
    grey = photograph(0).mean(-1, keepdims=True)
    colour = frames(lambda t, n: grey + np.float32(0.5 + 0.5 * t) * (photograph(0) - grey))
    assert describe_frames(colour).label == "whole picture: more colourful"
    assert describe_frames(colour[:, ::-1]).label == "whole picture: paler"


def _rgb(colour: str) -> Picture:
    return np.array(list(bytes.fromhex(colour)), np.float32) / np.float32(255)


def _fading(*colours: tuple[str, str], part: tuple[slice, slice] = (slice(42, 63), slice(8, 56))) -> Picture:
    """Returns frames in which a part of the picture fades; each start has the next pair of colours, in hexadecimal."""

    def draw(t: float, n: int) -> Picture:
        picture = photograph(0)
        first, last = (_rgb(colour) for colour in colours[n % len(colours)])
        picture[part] = first + (t + 1) / 2 * (last - first)
        return picture

    return frames(draw)


def test_a_change_of_shade_names_the_colour() -> None:
    for colours, words in (
        (("8a5530", "68401f"), "brown → darker brown"),
        (("2848d8", "4080e8"), "blue → lighter blue"),
        (("30a838", "5a9a60"), "green → paler green"),
    ):
        assert describe_frames(_fading(colours)).label == f"bottom: {words}"


def test_starts_of_different_colours_share_the_word_for_all_of_them() -> None:
    """The four starts have four shades of blue, or four dark colours, or four light ones."""
    for firsts, word in (
        (("b0dcf8", "2848d8", "101860", "687c98"), "blue"),
        (("101860", "284c30", "603a1c", "555555"), "dark"),
        (("fff4c8", "ffd8e4", "d0f8c8", "c8e4fc"), "light"),
    ):
        fading = _fading(*((first, "e030d0") for first in firsts))
        assert describe_frames(fading).label == f"bottom: {word} → magenta"


def test_a_region_of_two_colours_has_a_colour_that_can_be_seen_there() -> None:
    """Lines of red and yellow turn black; their mean is orange, which no pixel has."""

    def draw(t: float, n: int) -> Picture:
        picture = photograph(n)
        lines = np.where(np.arange(21)[:, None, None] % 6 < 3, _rgb("d01818"), _rgb("ffff40"))
        picture[42:63, 8:56] = (1 - t) / 2 * lines
        return picture

    label = describe_frames(frames(draw)).label
    assert label in ("bottom: red → black", "bottom: yellow → black")


def test_two_regions_that_change_in_different_ways_are_both_named() -> None:
    def draw(t: float, n: int) -> Picture:
        picture = photograph(n)
        picture[42:63, 8:56] = (1 - t) / 2  # from white to black
        picture[1:22, 8:56] = _rgb("7a4a28") + (t + 1) / 2 * (_rgb("3050d0") - _rgb("7a4a28"))
        return picture

    assert describe_frames(frames(draw)).label == "bottom: white → black, top: brown → blue"


def test_no_label_is_longer_than_a_person_may_write() -> None:
    """The second part is left out where both are too long."""

    def draw(t: float, n: int) -> Picture:
        picture = photograph(n)
        ring = np.ones((64, 64), bool)
        ring[24:40, 24:40] = ring[:10] = ring[-10:] = ring[:, :10] = ring[:, -10:] = False
        picture[ring] = _rgb("104818") + (t + 1) / 2 * (_rgb("b8e8b0") - _rgb("104818"))
        picture[24:40, 24:40] = _rgb("b0dcf8") + (t + 1) / 2 * (_rgb("101860") - _rgb("b0dcf8"))
        return picture

    effect = describe_frames(frames(draw))
    assert effect.label == "around the centre: dark green → light green"
    assert "centre: light blue → dark blue" in effect.details


def _house(wall: str, roof: str) -> Picture:
    picture = np.ones((64, 64, 3), np.float32)
    picture[32:52, 16:48] = _rgb(wall)
    for row in range(16, 32):
        picture[row, 32 - (row - 14) : 32 + (row - 14)] = _rgb(roof)
    return picture


def test_a_thing_of_several_colours_names_the_part_that_changes() -> None:
    def draw(t: float, n: int) -> Picture:
        picture = _house("2848d8", "701010")
        picture[32:52, 16:48] += (1 - t) / 2 * (_rgb("ffff40") - _rgb("2848d8"))
        return np.roll(picture, n, axis=1)

    assert describe_frames(frames(draw)).label == "lower middle: yellow → blue"


def dyed(n: int, hue: float) -> Picture:
    """Draws a disc of a bright colour on black."""
    colour = [0.5 + 0.5 * np.cos(hue - angle) for angle in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
    picture: Picture = disc(*base(n)) * np.array(colour, np.float32)
    return picture


def test_a_colour_has_its_name_whichever_way_round_the_circle_leads_there() -> None:
    """The hue goes from red to cyan, through green from two of the starts and through violet from the others."""
    circle = frames(lambda t, n: dyed(n, (t + 1) / 2 * np.pi * (-1) ** n))
    assert describe_frames(circle).label == "object: red → teal"
    assert describe_frames(circle[:, ::-1]).label == "object: teal → red"


def test_colours_that_end_apart_have_no_name() -> None:
    """The hue of each start turns by the same angle."""
    assert describe_frames(frames(lambda t, n: dyed(n, n * np.pi / 2 + t))).label == "object: colour changes"


def test_things_of_different_colours_that_get_lighter_say_only_that() -> None:
    """From red to pink is what one start shows, and not what the dimension does."""
    for sign, label in ((1, "object: lighter"), (-1, "object: darker")):
        found = frames(lambda t, n, sign=sign: dyed(n, n * np.pi / 2) ** (1 - 0.4 * sign * t))  # type: ignore[misc]
        assert describe_frames(found).label == label


def test_words_for_geometry_need_one_thing_on_a_background_that_stays() -> None:
    """The face's hair widens what differs from the background, but nothing grows; two discs move apart, not one."""
    apart = frames(lambda t, n: np.maximum(disc(0.3 - 0.1 * t, 0.5), disc(0.7 + 0.1 * t, 0.5)))
    lit = frames(lambda t, n: np.maximum(disc(base(n)[0] + 0.15 * t, base(n)[1]), np.float32(0.3 + 0.25 * t)))
    for shown in (frames(_face), apart, lit):
        assert not {"moves", "grows", "shrinks", "turns", "gets"} & set(describe_frames(shown).label.split())


def test_a_movement_that_does_not_explain_the_change_is_not_named() -> None:
    """A disc becomes a ring of the same centre: its spread grows, but no enlarged disc is a ring."""
    ring = frames(lambda t, n: disc(0.5, 0.5, 0.2) - np.float32((t + 1) / 2) * disc(0.5, 0.5, 0.16))
    assert describe_frames(ring).label == "shape changes"


def test_a_thing_that_ends_as_its_mirror_image_turns_the_other_way() -> None:
    def corner(t: float, n: int) -> Picture:
        """Draws an L, the upright of which fades from its left side to its right one."""
        picture = np.zeros((64, 64, 1), np.float32)
        picture[40:46, 20:44] = 1
        picture[16:40, 20:26], picture[16:40, 38:44] = (1 - t) / 2, (1 + t) / 2
        return picture

    assert describe_frames(frames(corner)).label.split(", ")[0] == "turns the other way"


def test_what_an_eye_cannot_see_has_no_label() -> None:
    """Thirty levels over a twentieth of the pixels are the least; ten over the whole picture are as much."""
    for levels, is_seen in ((12, True), (8, False)):
        everywhere = frames(lambda t, n, levels=levels: photograph(n) + np.float32(levels / 255 * t / 2))  # type: ignore[misc]
        effect = describe_frames(everywhere)
        assert effect.visible_change == pytest.approx(3 * levels, abs=0.1)
        assert (bool(effect.label), effect.strength > 0) == (is_seen, is_seen)


def test_still_frames_have_an_empty_label() -> None:
    effect = describe_frames(frames(lambda t, n: disc(*base(n))))
    assert (effect.label, effect.strength, np.max(effect.heat_map)) == ("", 0.0, 0.0)


def test_reversed_frames_have_the_opposite_change() -> None:
    there = frames(MOVES["moves up and right"])
    one, other = describe_frames(there), describe_frames(there[:, ::-1])
    for name, change in one.changes.items():
        assert other.changes[name] == pytest.approx(-change, abs=1e-3)


def test_the_heat_map_shows_where() -> None:
    heat = np.array(describe_frames(frames(_region(slice(40, 56), slice(0, 16)))).heat_map)
    assert heat.shape == (8, 8)
    assert heat[5:7, 0:2].min() > 10 * np.delete(heat, [5, 6], axis=0).max()


def test_black_frames_measure_without_a_warning() -> None:
    effect = describe_frames(np.zeros((2, T, 32, 32, 3), np.float32))
    assert effect.label == ""
    assert all(np.isfinite(value) for value in effect.changes.values())


def test_an_object_that_fades_away_still_has_a_size() -> None:
    assert describe_frames(frames(lambda t, n: disc(*base(n), radius=max(0.0, 0.1 + 0.1 * t)))).label == "grows"
