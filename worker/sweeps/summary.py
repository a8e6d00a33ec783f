"""The numbers of a sweep: those of its members, and each cell's mean over seeds. This module loads no torch."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.jobs.records import Job
from worker.sweeps.grid import cell_key, cell_of
from worker.sweeps.records import Sweep, SweepView, member_job_id

LOSSES = ("reconstruction_loss", "kl")


@dataclass(frozen=True, kw_only=True)
class MemberResult:
    """A member with what is known of it."""

    index: int
    """Position in the sweep."""
    name: str
    settings: dict[str, Any]
    status: str
    job: str | None = None
    model: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    """reconstruction_loss, kl and kl_per_dimension, in nats, and active_dimensions: of the model, or the newest ones of
    the training."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each score with its value, and its interval where it has one; udr and model_centrality among them."""
    error: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the member as the API shows it."""
        return {
            "index": self.index,
            "name": self.name,
            "job": self.job,
            "settings": self.settings,
            "status": self.status,
            "model": self.model,
            "metrics": self.metrics,
            "scores": self.scores,
            "error": self.error,
        }


def results_of(sweep: Sweep, view: SweepView[Job], comparison: Mapping[str, Any] | None) -> list[MemberResult]:
    """Returns the members of a sweep of the service.

    Args:
        sweep: The sweep.
        view: The sweep with whole jobs.
        comparison: The newest comparison of its models, or None.
    """
    scores = (comparison or {}).get("scores", {})
    found = []
    for index, (member, job, status) in enumerate(zip(sweep.members, view.jobs, view.statuses, strict=True)):
        model = job.model if job is not None and status == "succeeded" else None
        found.append(
            MemberResult(
                index=index,
                name=member.name,
                settings=member.settings,
                status=status,
                job=member_job_id(sweep.id, index),
                model=model,
                metrics={} if job is None else _metrics(job),
                scores={**_evaluated(job), **scores.get(str(model), {})},
                error=job.error if job is not None and status == "failed" else None,
            )
        )
    return found


def _metrics(job: Job) -> dict[str, Any]:
    """Returns the losses of a job's model, or the newest ones of its training."""
    result = job.result or {}
    if job.status != "succeeded" or "kl_per_dimension" not in result:
        names = (*LOSSES, "kl_per_dimension")
        return {name: job.metrics[name] for name in names if job.metrics.get(name) is not None}
    return {
        "reconstruction_loss": result["reconstruction_loss"],
        "kl": sum(result["kl_per_dimension"]),
        "kl_per_dimension": result["kl_per_dimension"],
        "active_dimensions": result["active_dimensions"],
    }


def _evaluated(job: Job | None) -> dict[str, dict[str, Any]]:
    found = ((job.result if job is not None else None) or {}).get("evaluation") or {}
    scores: dict[str, dict[str, Any]] = found.get("scores", {})
    return scores


def cells_of(results: Sequence[MemberResult]) -> list[dict[str, Any]]:
    """Returns each cell of a sweep, with mean and standard deviation over its members that have a model.

    Args:
        results: The members.

    Returns:
        For each combination of the settings other than the seed: `settings`, `num_members`, `num_models`, and
        `metrics` and `scores`, each number with `mean`, `std` (null for a single one) and `count`.
    """
    groups: dict[str, list[MemberResult]] = {}
    for result in results:
        groups.setdefault(cell_key(result.settings), []).append(result)
    return [_cell(members) for members in groups.values()]


def _cell(members: Sequence[MemberResult]) -> dict[str, Any]:
    done = [member for member in members if member.model is not None]
    metrics = {name: [member.metrics.get(name) for member in done] for name in LOSSES}
    metrics["active_dimensions"] = [len(member.metrics.get("active_dimensions", ())) for member in done]
    names = dict.fromkeys(name for member in done for name in member.scores)
    scores = {name: [member.scores.get(name, {}).get("value") for member in done] for name in names}
    return {
        "settings": cell_of(members[0].settings),
        "num_members": len(members),
        "num_models": len(done),
        "metrics": _statistics(metrics),
        "scores": _statistics(scores),
    }


def _statistics(columns: Mapping[str, Iterable[float | None]]) -> dict[str, Any]:
    found = {}
    for name, column in columns.items():
        values = [value for value in column if value is not None and math.isfinite(value)]
        if values:
            std = statistics.stdev(values) if len(values) > 1 else None
            found[name] = {"mean": statistics.fmean(values), "std": std, "count": len(values)}
    return found


def table_csv(results: Sequence[MemberResult]) -> str:
    """Returns the members as a CSV table, one a row: settings, state, losses in nats, and scores with intervals."""
    settings = dict.fromkeys(name for result in results for name in result.settings)
    scores = {
        name: any(result.scores.get(name, {}).get("interval") for result in results)
        for name in dict.fromkeys(name for result in results for name in result.scores)
    }
    heads = [f"{name}{end}" for name, wide in scores.items() for end in (("", "_low", "_high") if wide else ("",))]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["member", "name", "job", *settings, "status", "model", *LOSSES, "active_dimensions", *heads])
    for result in results:
        active = result.metrics.get("active_dimensions")
        row = [result.index, result.name, result.job, *(result.settings.get(name) for name in settings)]
        row += [result.status, result.model, *(result.metrics.get(name) for name in LOSSES)]
        row.append(None if active is None else len(active))
        for name, is_wide in scores.items():
            score = result.scores.get(name, {})
            row += [score.get("value"), *(score.get("interval") or (None, None) if is_wide else ())]
        table.writerow(row)
    return text.getvalue()
