"""Trains every objective with the same number of steps over several seeds, as one sweep, and prints their table.

    betavae serve
    python -m benchmarks.objectives [--steps 5000] [--seeds 5] [--dataset dsprites] [--only controlled factorvae] [URL]

All members have the Burgess network with 10 latents, batch 64, and Adam 1e-3 with a cosine. The command can be stopped
and given again: the sweep of the service goes on, and is found by its name. Each cell of the table has the mean over
the seeds and its 95 % interval (Student's t). The last column is the median speed of the trainings, which depends on
what else the machine does.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.client import Client
from app.remote.errors import ServiceError
from app.sweep_schemas import Statistic, Sweep, SweepCell

METRICS = ("mig", "factor_vae", "dci", "infomec")
COLUMNS = {
    "MIG": "mig",
    "FactorVAE": "factor_vae",
    "DCI D": "dci_disentanglement",
    "DCI C": "dci_completeness",
    "InfoM": "infomec_modularity",
    "InfoC": "infomec_compactness",
    "InfoE": "infomec_explicitness",
}
"""Scores of the table, by the titles of their columns."""
SHARED = {"image_size": 64, "batch_size": 64, "learning_rate": 1e-3, "learning_rate_schedule": "cosine",
          "validation_fraction": 0.01, "preview_steps": 0}  # fmt: skip
SMALL_DISCRIMINATOR = {"discriminator_width": 256, "discriminator_layers": 3}
FACTORVAE = {"objective": "factorvae", "gamma": 40, "discriminator_learning_rate": 1e-3}
"""The paper's discriminator learns at the network's own rate here, since a slower one is deceived (experiments.md)."""
POLL_SECONDS = 20.0


def objectives(num_steps: int, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Returns the settings of each row by its title.

    Args:
        num_steps: Length of the runs, of which schedules are shares.
        only: Beginnings of the titles of the rows that are wanted; none for all rows.
    """
    part = num_steps * 3 // 10
    annealed = {"beta_start": 150, "beta": 1.2, "anneal_steps": part, "restart_step": part}
    rows: dict[str, dict[str, Any]] = {
        "capacity, γ 1000": {"objective": "capacity", "gamma": 1000},
        "beta, β 4": {"objective": "beta", "beta": 4},
        "btcvae, β 6": {"objective": "btcvae", "beta": 6},
        "factorvae, γ 40, D 6 × 1000": FACTORVAE,
        "factorvae, γ 40, D 3 × 256": {**FACTORVAE, **SMALL_DISCRIMINATOR},
        "dipvae1, λ 10": {"objective": "dipvae1"},
        "dipvae2, λ 10": {"objective": "dipvae2"},
        "categorical": {"objective": "categorical"},
        "controlled (the default)": {"objective": "controlled"},
        "annealed, β 150 → 1.2": {"objective": "annealed", **annealed, "restart_steps": num_steps // 2},
    }
    return {title: row for title, row in rows.items() if not only or title.startswith(tuple(only))}


def find_or_start(
    client: Client, name: str, dataset: str, rows: Mapping[str, dict[str, Any]], num_steps: int, num_seeds: int
) -> Sweep:
    """Returns the sweep of this name, which is started if there is none."""
    try:
        return client.sweep_of(name)
    except ServiceError as error:
        if error.code != "unknown_sweep":
            raise
    members = [{**row, "seed": seed} for seed in range(num_seeds) for row in rows.values()]
    config = {**SHARED, "num_steps": num_steps}
    return client.start_sweep(dataset, name=name, config=config, members=members, evaluate=list(METRICS))


def _cell(number: Statistic | None, digits: int) -> str:
    if number is None:
        return ""
    if not number.std or number.count < 2:
        return f"{number.mean:.{digits}f}"
    from scipy.stats import t

    half = float(t.ppf(0.975, number.count - 1)) * number.std / math.sqrt(number.count)
    return f"{number.mean:.{digits}f} ± {half:.{digits}f}"


def _rates(client: Client, sweep: Sweep, cell: SweepCell) -> list[float]:
    """Returns the images per second that the members of a cell had at last."""
    ended = [member for member in sweep.members if member.status == "succeeded"]
    jobs = [member.job for member in ended if _without_seed(member.settings) == cell.settings]
    speeds = (client.job(job).progress.images_per_second for job in jobs)
    return [speed for speed in speeds if speed]


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def table(client: Client, sweep: Sweep, rows: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Yields the lines of the table of a sweep in Markdown."""
    titles = ["objective", "seeds", *COLUMNS, "reconstruction", "KL", "images/s"]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for title, row in rows.items():
        found = [cell for cell in sweep.cells if cell.settings == row]
        for cell in found:
            scores = [_cell(cell.scores.get(score), 3) for score in COLUMNS.values()]
            losses = [_cell(cell.metrics.get(loss), 1) for loss in ("reconstruction_loss", "kl")]
            speeds = _rates(client, sweep, cell)
            speed = f"{statistics.median(speeds):.0f}" if speeds else ""
            yield f"| {' | '.join([title, str(cell.num_models), *scores, *losses, speed])} |"


def choice(sweep: Sweep) -> Iterator[str]:
    """Yields how far the MIG of the model that was chosen without labels lies from the best one's."""
    if sweep.winner is None:
        return
    yield f"\nchosen without labels: {sweep.winner.model}: {sweep.winner.reason}"
    found = {member.model: member.scores["mig"].value for member in sweep.members if "mig" in member.scores}
    scores = {model: score for model, score in found.items() if score is not None}
    if sweep.winner.model in scores:
        chosen, best, mean = scores[sweep.winner.model], max(scores.values()), statistics.mean(scores.values())
        yield f"its MIG is {chosen:.3f}, {best - chosen:.3f} below the best of {len(scores)}, whose mean is {mean:.3f}"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--dataset", default="dsprites")
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], metavar="TITLE", help="rows whose titles begin so")
    parser.add_argument("--now", action="store_true", help="print what there is, without waiting for the end")
    arguments = parser.parse_args()
    rows = objectives(arguments.steps, arguments.only)
    if not rows:
        parser.error(f"--only: no row begins so; the rows are {', '.join(objectives(arguments.steps))}")
    with Client(arguments.url) as client:
        name = " ".join(["objectives", arguments.dataset, str(arguments.steps), *arguments.only])
        sweep = find_or_start(client, name, arguments.dataset, rows, arguments.steps, arguments.seeds)
        while sweep.status not in ("succeeded", "failed", "cancelled") and not arguments.now:
            print(f"{sweep.status}, {100 * sweep.progress.fraction:.1f} %", flush=True)
            time.sleep(POLL_SECONDS)
            sweep = client.sweep_of(sweep.id)
        print("\n".join(table(client, sweep, rows)))
        print("\n".join(choice(sweep)))


if __name__ == "__main__":
    main()
