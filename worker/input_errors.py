"""The errors of a job's data set or model, which fail the job. This module loads no torch."""

from training.data.datasets import DatasetError
from worker.jobs.claims import Claim
from worker.stores.dataset_records import UnknownDataset
from worker.stores.models import UnknownModel

INPUT_ERRORS = (DatasetError, UnknownDataset, UnknownModel)


def fail_for_input(claim: Claim, error: DatasetError | UnknownDataset | UnknownModel) -> None:
    """Fails a job whose data set or model is missing or unusable.

    Args:
        claim: The claim on the job.
        error: One of `INPUT_ERRORS`.
    """
    if isinstance(error, DatasetError):
        claim.fail(error.code, error.message)
    else:
        claim.fail("unknown_dataset" if isinstance(error, UnknownDataset) else "unknown_model", str(error))
