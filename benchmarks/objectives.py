"""Trains every objective with the same number of steps over several seeds, as one sweep, and prints their table.

    betavae serve
    python -m benchmarks.objectives [--steps 5000] [--seeds 5] [--dataset dsprites] [--only TITLE…] [--url URL]

All members have the Burgess network with 10 latents, batch 64, and Adam 1e-3 with a cosine. FactorVAE and DCI take
longer than a training, so that they are computed when all models are there. The command can be stopped and given again:
the sweep of the service goes on, and is found by its name. Each cell of the table has the mean over the seeds and its
95 % interval (Student's t); where fewer models have a score, their number follows. The last column is the median speed
of the trainings, which depends on what else the machine does.
"""

import argparse
import hashlib
import math
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from app.api.sweeps.requests import LONGEST_NAME
from app.client import Client
from app.remote.calls import FINISHED
from app.remote.errors import ServiceError
from app.sweep_schemas import Sweep
from worker.sweeps.grid import cell_of

METRICS = ("mig", "infomec")
"""Scores that are computed right after each training."""
SLOW_METRICS = ("factor_vae", "dci")
"""Scores that are computed when all models are there: on dSprites, ten minutes of a core for each model."""
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


def name_of(dataset: str, num_steps: int, only: Sequence[str] = ()) -> str:
    """Returns the name of the sweep of these rows, of what a name may have; a long one ends with a hash."""
    name = " ".join(re.findall(r"[A-Za-z0-9]+", f"objectives {dataset} {num_steps} {' '.join(only)}"))
    if len(name) <= LONGEST_NAME:
        return name
    end = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 1 - len(end)]} {end}"


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


def scores_of(client: Client, sweep: Sweep) -> dict[str, dict[str, float]]:
    """Returns the scores of each model of a sweep by the model's id; undefined ones are left out."""
    models = [member.model for member in sweep.members if member.model is not None]
    found = {model: client.model(model).metrics for model in models}
    return {
        model: {name: score["value"] for name, score in metrics.items() if score.get("value") is not None}
        for model, metrics in found.items()
    }


def compute_slow(client: Client, url: str, sweep: Sweep) -> None:
    """Has the slow scores computed for the models that lack them, and waits until they are there.

    Raises:
        httpx.HTTPStatusError: The service refused an evaluation.
    """
    pending = []
    for model, scores in scores_of(client, sweep).items():
        if COLUMNS["DCI D"] not in scores:
            body = {"dataset": sweep.dataset, "metrics": list(SLOW_METRICS)}
            headers = {"Idempotency-Key": f"slow-{sweep.id}-{model}"}
            answer = httpx.post(f"{url}/models/{model}/evaluations", json=body, headers=headers, timeout=60)
            pending.append(answer.raise_for_status().json()["links"]["self"])
    while pending:
        print(f"the slow scores of {len(pending)} models are still to be computed", flush=True)
        time.sleep(POLL_SECONDS)
        pending = [at for at in pending if httpx.get(f"{url}{at}", timeout=60).json()["status"] not in FINISHED]


def _cell(values: Sequence[float], num_models: int, digits: int) -> str:
    if not values:
        return ""
    missing = "" if len(values) == num_models else f" ({len(values)})"
    mean = statistics.mean(values)
    if len(values) < 2 or len(set(values)) == 1:
        return f"{mean:.{digits}f}{missing}"
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}{missing}"


def table(
    client: Client, sweep: Sweep, scores: Mapping[str, Mapping[str, float]], rows: Mapping[str, dict[str, Any]]
) -> Iterator[str]:
    """Yields the table of a sweep in Markdown; rows without a model and scores of no model are left out."""
    columns = {title: name for title, name in COLUMNS.items() if any(name in one for one in scores.values())}
    titles = ["objective", "seeds", *columns, "reconstruction", "KL", "images/s"]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for title, row in rows.items():
        done = [m for m in sweep.members if m.model is not None and cell_of(m.settings) == row]
        if not done:
            continue
        found = [scores[member.model] for member in done if member.model is not None]
        cells = [_cell([one[name] for one in found if name in one], len(done), 3) for name in columns.values()]
        for losses in ([m.metrics.reconstruction_loss for m in done], [m.metrics.kl for m in done]):
            cells += [_cell([loss for loss in losses if loss is not None], len(done), 1)]
        speeds = [speed for member in done if (speed := client.job(member.job).progress.images_per_second)]
        cells.append(f"{statistics.median(speeds):.0f}" if speeds else "")
        yield f"| {' | '.join([title, str(len(done)), *cells])} |"


def choice(sweep: Sweep, scores: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yields how far the MIG of the model that was chosen without labels lies from the best one's."""
    if sweep.winner is None:
        return
    yield f"\nchosen without labels: {sweep.winner.model}: {sweep.winner.reason}"
    found = {model: one["mig"] for model, one in scores.items() if "mig" in one}
    if sweep.winner.model in found:
        chosen, best, mean = found[sweep.winner.model], max(found.values()), statistics.mean(found.values())
        yield f"its MIG is {chosen:.3f}, {best - chosen:.3f} below the best of {len(found)}, whose mean is {mean:.3f}"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--dataset", default="dsprites")
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], metavar="TITLE", help="rows whose titles begin so")
    parser.add_argument("--quick", action="store_true", help="leave out FactorVAE and DCI")
    parser.add_argument("--now", action="store_true", help="print what there is, without waiting for the end")
    arguments = parser.parse_args()
    rows = objectives(arguments.steps, arguments.only)
    if not rows:
        parser.error(f"--only: no row begins so; the rows are {', '.join(objectives(arguments.steps))}")
    with Client(arguments.url) as client:
        name = name_of(arguments.dataset, arguments.steps, arguments.only)
        sweep = find_or_start(client, name, arguments.dataset, rows, arguments.steps, arguments.seeds)
        while sweep.status not in FINISHED and not arguments.now:
            print(f"{sweep.status}, {100 * sweep.progress.fraction:.1f} %", flush=True)
            time.sleep(POLL_SECONDS)
            sweep = client.sweep_of(sweep.id)
        if not arguments.now and not arguments.quick:
            compute_slow(client, arguments.url, sweep)
        scores = scores_of(client, sweep)
        print("\n".join(table(client, sweep, scores, rows)))
        print("\n".join(choice(sweep, scores)))


if __name__ == "__main__":
    main()
