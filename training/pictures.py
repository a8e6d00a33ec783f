"""Draws the pictures of a run: previews with captions, their animation, and the figure of Burgess et al. 2018."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from models.networks import VAE
from models.pixels import to_input
from training.inputs import evenly_spaced, typical_image
from training.summary import encode

PREVIEW_IMAGES = 8
_TYPICAL_AMONG = 512
"""Number of images among which previews choose a typical one."""
_CODES_AFTER = 1 / 3
"""Share of a run after which the codes choose the typical image. Earlier ones tell little: the default objective draws
the network anew after a quarter of the run."""
PREVIEW_SPAN, PREVIEW_FRAMES = 3.0, 8
_FRAME_MS, _LAST_FRAME_MS = 250, 3000
"""Duration of each preview in an animation, and of the last one, which stays longer so that people can read it."""
_FONT_PX = 13
_MARGIN_PX, _HEADER_PX = 84, 26
_INK, _MUTED, _PAPER = (27, 27, 27), (98, 98, 98), (255, 255, 255)
"""All three are greys, so that the animation of a grey run keeps every pixel."""
_LEAST_SHOWN = 0.05
"""Least share of the figure's height that the lines over C reach, so that they have a panel of their own."""
_LABELLED = 12
"""Number of lines that the figure labels and colours, for the dimensions of largest final KL. The others are grey."""


class PreviewImages:
    """Chooses the images of a run's previews: a typical one, which is traversed, and evenly spaced ones.

    The typical image is the one whose code is nearest to the mean code. Until the codes mean something, it is the one
    nearest to the mean image.
    """

    def __init__(self, images: NDArray[np.uint8], indices: NDArray[np.int64]) -> None:
        """Takes all images, (N, H, W, C) uint8, and the sorted indices of those that may be shown."""
        self._images = images
        self._others, self._candidates = evenly_spaced(indices, PREVIEW_IMAGES), evenly_spaced(indices, _TYPICAL_AMONG)
        self._by_pixels: int | None = None
        self.by_codes: int | None = None
        """Index of the image that the codes have chosen, which stays; None before. Part of the run's checkpoint."""

    def of(self, network: VAE, device: torch.device, *, step: int, num_steps: int) -> Tensor:
        """Returns the images of a preview, at most 8, the typical one first.

        Args:
            network: The network.
            device: The device of the network.
            step: Number of steps that are done.
            num_steps: Number of steps of the run.

        Returns:
            (N, C, H, W) in [0, 1].
        """
        if self.by_codes is None and step >= num_steps * _CODES_AFTER:
            codes, _ = encode(network, self._images, self._candidates, device)
            self.by_codes = int(self._candidates[np.square(codes - codes.mean(0)).sum(1).argmin()])
        typical = self.by_codes
        if typical is None:
            if self._by_pixels is None:
                self._by_pixels = typical_image(self._images, self._candidates)
            typical = self._by_pixels
        chosen = np.concatenate([[typical], self._others[self._others != typical]])[:PREVIEW_IMAGES]
        return to_input(self._images[chosen], device)


def preview_sheet(network: VAE, images: Tensor, *, step: int, num_steps: int) -> NDArray[np.uint8]:
    """Draws originals, reconstructions and a traversal from −3 to 3 units of each dimension, with the rows' names.

    Args:
        network: The network.
        images: At most 8 images, (N, C, H, W) in [0, 1], on the network's device; the first one is traversed.
        step: Number of steps that are done.
        num_steps: Number of steps of the run.

    Returns:
        (H', W', 3) uint8.
    """
    rows, kls = _rows(network, images)
    tile = rows.shape[2]
    scale = max(1, round(64 / tile))
    pitch = tile * scale + 2
    sheet = Image.new("RGB", (_MARGIN_PX + PREVIEW_FRAMES * pitch, _HEADER_PX + len(rows) * pitch), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_PX)
    draw.text((8, 6), f"step {step:,} of {num_steps:,}".replace(",", " "), _INK, font)
    span = PREVIEW_SPAN * network.config.latent_unit
    ends = f"each row: from -{span:g} to {span:g}"  # Pillow's built-in font has neither − nor σ.
    draw.text((sheet.width - font.getlength(ends) - 8, 6), ends, _MUTED, font)
    names = ["original", "decoded", *(f"z{k}" for k in range(len(kls)))]
    for r, (name, row) in enumerate(zip(names, rows, strict=True)):
        top = _HEADER_PX + r * pitch
        middle = top + pitch // 2
        if r < 2:
            draw.text((8, middle - _FONT_PX // 2 - 2), name, _INK, font)
        else:
            draw.text((8, middle - _FONT_PX - 2), name, _INK, font)
            draw.text((8, middle + 1), f"{kls[r - 2]:.2f} nats", _MUTED, font)
        for c, pixels in enumerate(row):
            picture = Image.fromarray(pixels).resize((tile * scale, tile * scale), Image.Resampling.NEAREST)
            sheet.paste(picture, (_MARGIN_PX + c * pitch, top + 1))
    return np.asarray(sheet)


@torch.no_grad()
def _rows(network: VAE, images: Tensor) -> tuple[NDArray[np.uint8], list[float]]:
    """Returns the tiles, (R, 8, H, W, 3) uint8, and the KL of each dimension in nats for the traversed image."""
    posterior = network.posterior(images)
    mean, kls = posterior.mean, posterior.kl().mean(0).tolist()
    latent_dim = mean.shape[1]
    span = PREVIEW_SPAN * network.config.latent_unit
    values = torch.linspace(-span, span, PREVIEW_FRAMES, device=mean.device)
    latents = mean[:1].repeat(latent_dim * PREVIEW_FRAMES, 1)
    index = torch.arange(len(latents), device=mean.device)
    latents[index, index // PREVIEW_FRAMES] = values.repeat(latent_dim)
    padding = images.new_ones(PREVIEW_FRAMES - len(images), *images.shape[1:])
    tiles = torch.cat([images, padding, network.decode(mean), padding, network.decode(latents)])
    pixels = (tiles.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    if pixels.shape[3] == 1:
        pixels = pixels.repeat(3, axis=3)
    count, height, width, _ = pixels.shape
    return pixels.reshape(count // PREVIEW_FRAMES, PREVIEW_FRAMES, height, width, 3), kls


def animation(pictures: Sequence[Path]) -> bytes:
    """Returns a GIF of the pictures, of which the last one stays longer; only one is in memory at a time."""
    frames = (_paletted(Image.open(path).convert("RGB")) for path in pictures)
    durations = [_FRAME_MS] * (len(pictures) - 1) + [_LAST_FRAME_MS]
    buffer = io.BytesIO()
    next(frames).save(buffer, "GIF", save_all=True, append_images=frames, duration=durations, loop=0)
    return buffer.getvalue()


def _paletted(picture: Image.Image) -> Image.Image:
    """Returns the picture with at most 256 colours; greys stay as they are."""
    if not np.ptp(np.asarray(picture), axis=2).any():
        return picture.convert("L")
    # An octree takes an eighth of the time of the usual median cut, and preserves the hues of small things better.
    return picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def capacity_figure(records: list[dict[str, Any]], restart_step: int | None = None) -> bytes:
    """Draws KL per dimension against the step and, while C moves, against C (Burgess et al. 2018, Fig. 2).

    Args:
        records: The run's records, each with `step`, `kl_per_dimension` and, where there is one, `capacity`.
        restart_step: Step of the restart, from which a new network is trained with C at its end; None without one.

    Returns:
        The bytes of a PNG.
    """
    # This uses matplotlib's object interface, since pyplot keeps global state and is not safe in a worker's thread.
    from matplotlib.figure import Figure

    steps = np.array([record["step"] for record in records])
    capacities = np.array([float(record.get("capacity", 0.0)) for record in records])
    kl = np.array([record["kl_per_dimension"] for record in records])
    moving = _while_capacity_moves(steps, capacities, restart_step)
    # The panel over the step shows the whole run; C stays at its end after the ramp, or jumps to it at a restart.
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 0.97, 1), wspace=0.06)  # type: ignore[union-attr,call-arg]
    # A restart may come before any dimension has learnt something; the panel against C would then be empty.
    has_ramp = moving.sum() > 1 and kl[moving].max() >= _LEAST_SHOWN * kl.max()
    panels = figure.subplots(1, 2, sharey=True) if has_ramp else [figure.subplots()]
    colours = _colours(kl)
    panels[0].set_ylim(0, max(0.1, float(kl.max())) * 1.06)
    _draw_lines(panels[0], steps, kl, colours)
    panels[0].set_xlabel("step")
    panels[0].set_ylabel("KL per dimension (nats)")
    if restart_step is not None and restart_step < steps[-1]:
        panels[0].axvline(restart_step, color="0.6", linewidth=0.8, linestyle=":")
        panels[0].annotate(
            "restart", (restart_step, 0.98), xycoords=("data", "axes fraction"), fontsize=8, color="0.4", va="top"
        )
    if len(panels) > 1:
        _draw_lines(panels[1], capacities[moving], kl[moving], colours)
        panels[1].set_xlabel("capacity C (nats)" + (", until the restart" if restart_step is not None else ""))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _while_capacity_moves(
    steps: NDArray[np.int64], capacities: NDArray[np.float64], restart_step: int | None
) -> NDArray[np.bool_]:
    """Returns which records were made while C moved along its ramp, before any restart."""
    moving = np.ones(len(steps), bool) if restart_step is None else steps <= restart_step
    if not moving.any() or np.ptp(capacities[moving]) < 1e-9:
        return np.zeros(len(steps), bool)
    at_end = np.isclose(capacities, capacities[moving][-1])
    first_at_end = int(np.argmax(at_end & moving))
    return moving & (np.arange(len(steps)) <= first_at_end)


def _colours(kl: NDArray[np.float64]) -> dict[int, Any]:
    """Returns distinct colours for the dimensions whose final KL is largest, by dimension."""
    import matplotlib

    palette = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    largest = [int(k) for k in np.argsort(-kl[-1])[:_LABELLED] if kl[:, k].max() > 0]
    return dict(zip(largest, [*palette[::2], *palette[1::2]], strict=False))


def _draw_lines(axes: Any, x: NDArray[Any], kl: NDArray[np.float64], colours: dict[int, Any]) -> None:
    """Draws one line per dimension; lines with a colour of their own are labelled at their ends."""
    for k in range(kl.shape[1]):
        own = colours.get(k)
        width, order = (1.3, 2) if own else (0.8, 1)
        axes.plot(x, kl[:, k], linewidth=width, color=own or "0.8", zorder=order)
    gap = axes.get_ylim()[1] / 22
    height = float("inf")
    for k in sorted(colours, key=lambda k: -kl[-1, k]):
        # Labels are placed from the top down, each at its line's end or below the previous label.
        height = min(float(kl[-1, k]), height - gap)
        if height < 0:
            break
        label = axes.annotate(
            f"z{k}",
            (x[-1], height),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            color=colours[k],
            va="center",
            annotation_clip=False,
        )
        label.set_in_layout(False)
    axes.locator_params(axis="x", nbins=5)  # With more ticks, the labels of a long run would overlap.
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
