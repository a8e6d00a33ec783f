"""The comparison of a sweep's models as a job: agreement, aligned dimensions, choice, figure and sheet."""

import logging
import time
from typing import Any

import torch

from models.files import load_model
from models.networks import VAE
from training.data.packs import Pack
from training.device import DeviceError, pick_device
from worker.dataset_job import Abandoned, wait_for_pack
from worker.evaluations import UnfitModel
from worker.input_errors import INPUT_ERRORS, fail_for_input, fail_for_storage
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.records import JobStoreUnavailable
from worker.runtime import Runtime
from worker.stores.models import UnknownModel
from worker.sweeps.comparison import Candidate, IncomparableModels
from worker.sweeps.records import Sweep, UnknownSweep
from worker.sweeps.report import write_comparison
from worker.sweeps.summary import results_of

REPORT_SECONDS = 0.5

log = logging.getLogger(__name__)


def run_comparison_job(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    """Compares the models of a claimed job's sweep, writes what it finds into its folder, and ends the claim."""
    try:
        found = _Attempt(services, claim, keeper).run()
    except Abandoned as stopped:
        claim.stopped(str(stopped))
    except UnknownSweep as error:
        claim.fail("unknown_sweep", str(error))
    except INPUT_ERRORS as error:
        fail_for_input(claim, error)
    except DeviceError as error:
        claim.fail("invalid_config", str(error))
    except JobStoreUnavailable:
        raise
    except (UnfitModel, IncomparableModels) as error:
        claim.fail("incomparable_models", f"{error}")
    except OSError as error:
        fail_for_storage(claim, error, "Files could not be read or written")
    else:
        claim.succeed({"winner": found["winner"]}, model=found["winner"]["model"])


class _Attempt:
    """One attempt at a comparison."""

    def __init__(self, services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
        self.services, self.claim, self.keeper = services, claim, keeper
        self._packs: dict[str, Pack] = {}
        self._reported = float("-inf")

    def run(self) -> dict[str, Any]:
        """Returns the content of comparison.json."""
        sweep = self.services.sweeps.get(self.claim.job.request["sweep"]["id"])
        log.info("%s comparing the models of the sweep %s", self.claim.log_prefix, sweep.id)
        device = pick_device(self.services.settings.device)
        candidates = self._candidates(sweep, device)
        found = write_comparison(self.services.storage, sweep, candidates, self._report)
        if sweep.request.get("make_default"):
            self.services.models.set_default(found["winner"]["model"])
        return found

    def _candidates(self, sweep: Sweep, device: torch.device) -> list[Candidate]:
        """Returns the models that the job names and that are still there.

        Raises:
            UnknownModel: None of them is.
        """
        wanted, found = self.claim.job.request["models"], []
        for result in results_of(sweep, self.services.sweeps.view(sweep), None):
            if result.model not in wanted or result.model is None or not self.services.models.exists(result.model):
                continue
            info, folder = self.services.models.get(result.model)
            pack = self._pack(sweep.request["dataset"], info.preprocessing)

            def load(folder: Any = folder) -> VAE:
                try:
                    return load_model(folder, device).network
                except ValueError as error:
                    raise UnfitModel(str(error)) from error

            found.append(
                Candidate(
                    id=result.model, settings=result.settings, info=info, images=pack.images, load=load,
                    scores=result.scores,
                )
            )  # fmt: skip
        if not found:
            raise UnknownModel(", ".join(wanted))
        return found

    def _pack(self, dataset: str, preprocessing: Any) -> Pack:
        key = str(preprocessing)
        if key not in self._packs:
            self._packs[key] = wait_for_pack(self.services, dataset, preprocessing, lambda done, total: self._check())
        return self._packs[key]

    def _check(self) -> None:
        """Returns if the comparison may go on.

        Raises:
            Abandoned: It has to stop.
        """
        if reason := self.keeper.stop_reason(self.services.stopping):
            raise Abandoned(reason)

    def _report(self, stage: str, done: int, total: int) -> None:
        self._check()
        if time.monotonic() - self._reported < REPORT_SECONDS and done < total:
            return
        self._reported = time.monotonic()
        fraction = {"encoding": 0.0, "agreement": 0.6}.get(stage, 0.8) + 0.2 * done / max(total, 1)
        progress = {"step": done, "num_steps": total, "fraction": round(fraction, 4), "phase": "comparing"}
        self.claim.post_progress({**progress, "phase_fraction": done / max(total, 1)})
