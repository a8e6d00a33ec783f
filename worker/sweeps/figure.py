"""The figure of a sweep: reconstruction against score, a dot a model, coloured by its cell."""

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worker.sweeps.comparison import Candidate, Compared, losses_compare
from worker.sweeps.grid import cell_key, cell_of, label_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CELLS = 16
"""Largest number of cells that the legend names; a sweep with more has a single colour."""
LABEL_WIDTH = 40
"""Characters of a line of the legend, in which longer labels are wrapped."""
TITLE_WIDTH = 46
"""Characters of a line of the title, which ends before the legend."""
LEGEND_LINES = 32
"""Lines of labels that the legend has room for."""


def sweep_figure(candidates: Sequence[Candidate], compared: Compared, name: str) -> bytes:
    """Draws reconstruction against MIG, or against UDR where the models have no scores.

    Args:
        candidates: The models.
        compared: What they were found to be.
        name: Name of the sweep.

    Returns:
        The bytes of a PNG.
    """
    buffer = io.BytesIO()
    figure_of(candidates, compared, name).savefig(buffer, format="png")
    return buffer.getvalue()


def figure_of(candidates: Sequence[Candidate], compared: Compared, name: str) -> "Figure":
    """Returns the figure of a sweep; see sweep_figure."""
    # This uses matplotlib's object interface, since pyplot keeps global state and is not safe in a worker's thread.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    x, x_label = _reconstruction(candidates)
    y, y_label = _scores(candidates, compared)
    figure = Figure(figsize=(8.4, 5.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    colours = _colours(candidates)
    named: set[str] = set()
    for index, (one, across, up) in enumerate(zip(candidates, x, y, strict=True)):
        cell = cell_key(one.settings)
        if across is None or up is None:
            continue
        is_named = 1 < len(colours) <= MOST_CELLS and cell not in named
        label = _wrapped(label_of(cell_of(one.settings)) or "all", len(colours)) if is_named else None
        named.add(cell)
        axes.scatter(across, up, s=52, color=colours[cell], alpha=0.85, label=label, linewidths=0)
        if index == compared.order[0]:
            axes.scatter(across, up, s=190, facecolors="none", edgecolors="black", linewidths=1.4, label="chosen")
    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    title = textwrap.fill(f"{name}: {len(candidates)} models", TITLE_WIDTH)
    axes.set_title(title, fontsize=12, loc="left", parse_math=False)
    axes.margins(0.12)
    axes.tick_params(labelsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    return figure


def _reconstruction(candidates: Sequence[Candidate]) -> tuple[list[float | None], str]:
    """Returns the position of each model on the axis of reconstruction, and the label of the axis."""
    infos = [one.info for one in candidates]
    if losses_compare(infos):
        return [info.reconstruction_loss for info in infos], "reconstruction loss (nats per image; left is better)"
    return [info.explained_variance for info in infos], "share of the pixels' variance explained (right is better)"


def _scores(candidates: Sequence[Candidate], compared: Compared) -> tuple[list[float | None], str]:
    """Returns the score of each model, and the label of its axis."""
    migs = [one.score("mig") for one in candidates]
    if any(mig is not None for mig in migs):
        return migs, "MIG (up is better)"
    if any(score is not None for score in compared.udr):
        return compared.udr, "UDR (up is better)"
    return [0.0] * len(candidates), "no score: a single model"


def _wrapped(label: str, num_cells: int) -> str:
    """Returns the label of a cell in the lines that it has room for in the legend."""
    return textwrap.fill(label, LABEL_WIDTH, max_lines=LEGEND_LINES // num_cells, placeholder=" …")


def _colours(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Returns the colour of each cell, by its key."""
    import matplotlib

    cells = dict.fromkeys(cell_key(one.settings) for one in candidates)
    if len(cells) > MOST_CELLS:
        return dict.fromkeys(cells, "tab:blue")
    palette = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    return dict(zip(cells, [*palette[::2], *palette[1::2]], strict=False))
