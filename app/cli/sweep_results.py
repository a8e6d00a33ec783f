"""What `betavae sweep` prints and writes: the members, the means over seeds, and the chosen model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.cli.output import note, print_table
from app.cli.stores import Stores
from models.atomic import write_bytes
from worker.sweeps.grid import label_of
from worker.sweeps.summary import MemberResult, cells_of, table_csv

_SHOWN = {"mig": "MIG", "udr": "UDR", "model_centrality": "centrality"}
"""Scores in the tables; table.csv has all."""


def result_of(stores: Stores, settings: dict[str, Any], index: int, name: str, model: str) -> MemberResult:
    """Returns a member whose model is in the registry.

    Args:
        stores: The stores.
        settings: The settings in which it differs from the others.
        index: Its position in the sweep.
        name: Its name.
        model: Id of the model.
    """
    info = stores.models.info(model)
    scores = {one: score for one, score in info.metrics.items() if isinstance(score, dict)}
    return MemberResult(
        index=index,
        name=name,
        settings=settings,
        status="succeeded",
        model=model,
        metrics={
            "reconstruction_loss": info.reconstruction_loss,
            "kl": sum(info.kl_per_dimension),
            "kl_per_dimension": info.kl_per_dimension,
            "active_dimensions": info.active_dimensions,
        },
        scores=scores,
    )


def write_results(
    folder: Path, name: str, dataset: str, results: Sequence[MemberResult], found: Mapping[str, Any] | None
) -> str:
    """Writes sweep.json and table.csv into the sweep's folder, and returns the JSON.

    Args:
        folder: The folder.
        name: Name of the sweep.
        dataset: The data set.
        results: The members.
        found: The comparison, or None without a model.
    """
    members = _with_agreement(results, found)
    text = json.dumps(
        {
            "name": name,
            "dataset": dataset,
            "num_members": len(members),
            "members": [member.to_json() for member in members],
            "cells": cells_of(members),
            "winner": None if found is None else found["winner"],
            "comparison": None if found is None else found["comparison"],
        },
        indent=2,
        ensure_ascii=False,
    )
    write_bytes(folder / "sweep.json", f"{text}\n".encode())
    write_bytes(folder / "table.csv", table_csv(members).encode())
    return text


def print_results(results: Sequence[MemberResult], found: Mapping[str, Any] | None, folder: Path) -> None:
    """Prints a table of the members, one of the cells, and the chosen model.

    Args:
        results: The members.
        found: The comparison, or None without a model.
        folder: Folder of the sweep.
    """
    members = _with_agreement(results, found)
    names = [name for name in _SHOWN if any(_value(member, name) is not None for member in members)]
    heads = ("settings", "loss", "KL", "active", *(_SHOWN[name] for name in names), "model")
    print_table(heads, [_row(member, names) for member in members], whole=("model",))
    cells = [cell for cell in cells_of(members) if cell["num_models"] > 1]
    if cells and len(cells) < len(members):
        print()
        heads = ("mean ± deviation over seeds", "loss", "KL", "active", *(_SHOWN[name] for name in names))
        print_table(heads, [_cell_row(cell, names) for cell in cells], whole=heads[1:])
    if found is not None:
        print(f"\nchosen: {found['winner']['model']}\n{found['winner']['reason']}")
        for text in found["comparison"]["notes"]:
            note(f"note: {text}")
    note(f"{folder}: sweep.json, table.csv, figure.png and sheet.png")


def _with_agreement(results: Sequence[MemberResult], found: Mapping[str, Any] | None) -> list[MemberResult]:
    """Returns the members with UDR and ModelCentrality among their scores."""
    scores = {} if found is None else found["scores"]
    return [
        replace(result, scores={**result.scores, **scores.get(result.model, {})}) if result.model else result
        for result in results
    ]


def _value(member: MemberResult, name: str) -> float | None:
    value: float | None = member.scores.get(name, {}).get("value")
    return value


def _row(member: MemberResult, names: Sequence[str]) -> list[str]:
    label = label_of(member.settings)
    if member.model is None:
        return [label, "", "", "", *("" for _ in names), member.status]
    loss, kl = member.metrics["reconstruction_loss"], member.metrics["kl"]
    active = str(len(member.metrics["active_dimensions"]))
    return [
        label,
        "" if loss is None else f"{loss:.2f}",
        f"{kl:.2f}",
        active,
        *(_number(_value(member, name)) for name in names),
        member.model,
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cell_row(cell: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    numbers = [(cell["metrics"].get(name), 2) for name in ("reconstruction_loss", "kl", "active_dimensions")]
    numbers += [(cell["scores"].get(name), 3) for name in names]
    texts = [
        "" if found is None else f"{found['mean']:.{digits}f} ± {found['std'] or 0:.{digits}f}"
        for found, digits in numbers
    ]
    return [label_of(cell["settings"]) or "all", *texts]
