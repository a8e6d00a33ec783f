"""What a comparison leaves in the folder of its sweep: comparison.json, figure.png and sheet.png."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from worker.stores.storage import Storage
from worker.sweeps.comparison import Candidate, Compared, Report, compare_candidates
from worker.sweeps.figure import sweep_figure
from worker.sweeps.kept import folder
from worker.sweeps.records import FORMAT_VERSION, Sweep
from worker.sweeps.sheet import sweep_sheet


def write_comparison(storage: Storage, sweep: Sweep, candidates: Sequence[Candidate], report: Report) -> dict[str, Any]:
    """Compares the models of a sweep, and writes what was found.

    Args:
        storage: Where the sweep's folder is.
        sweep: The sweep.
        candidates: Its models.
        report: Called between the models and the stages.

    Returns:
        The content of comparison.json.

    Raises:
        IncomparableModels: The models cannot be compared.
    """
    compared = compare_candidates(candidates, report)
    report("drawing", 0, 2)
    storage.write_bytes(f"{folder(sweep.id)}/figure.png", sweep_figure(candidates, compared, sweep.name))
    report("drawing", 1, 2)
    storage.write_bytes(f"{folder(sweep.id)}/sheet.png", sweep_sheet(candidates, compared, sweep.name))
    found = described(candidates, compared)
    storage.write_json(f"{folder(sweep.id)}/comparison.json", found)
    return found


def described(candidates: Sequence[Candidate], compared: Compared) -> dict[str, Any]:
    """Returns a comparison as JSON: scores by model, the winner, and the aligned dimensions.

    Args:
        candidates: The models.
        compared: What they were found to be.
    """
    scores = {
        one.id: {
            name: {"value": values[index], "interval": None, "note": ""}
            for name, values in (("udr", compared.udr), ("model_centrality", compared.centrality))
            if values[index] is not None
        }
        for index, one in enumerate(candidates)
    }
    return {
        "format_version": FORMAT_VERSION,
        "scores": scores,
        "winner": {"model": candidates[compared.order[0]].id, "reason": compared.reason},
        "comparison": {
            "models": [one.id for one in candidates],
            "agreement": compared.agreement,
            "aligned": [asdict(column) for column in compared.columns],
            "num_images": compared.num_images,
            "notes": compared.notes,
        },
    }
