"""The evaluation of a model on a data set as a job: losses, active dimensions and disentanglement scores."""

import logging
import time
from typing import Any

from models.files import load_model
from training.device import DeviceError, pick_device
from training.metrics.evaluation import Evaluation
from worker.dataset_job import Abandoned, wait_for_pack
from worker.evaluations import REPORT_SECONDS, UnfitModel, evaluate_for_job, save_scores
from worker.input_errors import INPUT_ERRORS, fail_for_input, fail_for_storage
from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.records import JobStoreUnavailable
from worker.runtime import Runtime

log = logging.getLogger(__name__)


def run_evaluation_job(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    """Evaluates the model of a claimed job, writes the scores into its description, and ends the claim."""
    request = claim.job.request
    try:
        found, weights_sha256 = _Attempt(services, claim, keeper).run()
        saved = save_scores(services.models, request["model"], found, request["dataset"], weights_sha256)
    except Abandoned as stopped:
        claim.stopped(str(stopped))
    except INPUT_ERRORS as error:
        fail_for_input(claim, error)
    except DeviceError as error:
        claim.fail("invalid_config", str(error))
    except JobStoreUnavailable:
        raise
    except UnfitModel as error:
        claim.fail("invalid_model", str(error))
    except OSError as error:
        fail_for_storage(claim, error, "Files could not be read or written")
    else:
        claim.succeed({**found.to_json(), "saved": saved}, model=request["model"])


class _Attempt:
    """One attempt at an evaluation."""

    def __init__(self, services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
        self.services, self.claim, self.keeper = services, claim, keeper
        self._reported, self._packed = float("-inf"), 0

    def run(self) -> tuple[Evaluation, str]:
        """Returns the evaluation and the digest of the weights that it applies to."""
        request, services = self.claim.job.request, self.services
        info, folder = services.models.get(request["model"])
        log.info("%s evaluating %s on %s", self.claim.log_prefix, request["model"], request["dataset"])
        pack = wait_for_pack(services, request["dataset"], info.preprocessing, self._packing)
        device = pick_device(services.settings.device)
        try:
            network = load_model(folder, device).network
        except ValueError as error:
            raise UnfitModel(str(error)) from error
        found = evaluate_for_job(
            network,
            info,
            pack,
            metrics=request["metrics"],
            seed=request["seed"],
            should_stop=self._should_stop,
            report=self._report,
        )
        return found, info.weights_sha256

    def _should_stop(self) -> str | None:
        return self.keeper.stop_reason(self.services.stopping)

    def _packing(self, done: int, total: int) -> None:
        if reason := self._should_stop():
            raise Abandoned(reason)
        now = time.monotonic()
        if total and done != self._packed and now - self._reported >= REPORT_SECONDS:
            self._reported, self._packed = now, done
            fraction = done / total
            progress = {"phase": "packing", "phase_fraction": fraction}
            self.claim.post_event("packing", {"done": done, "total": total, "fraction": fraction}, progress=progress)

    def _report(self, progress: dict[str, Any]) -> None:
        self.claim.post_progress({**progress, "phase": "evaluating", "phase_fraction": progress["fraction"]})
