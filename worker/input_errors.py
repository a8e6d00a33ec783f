"""The errors of a job's data set or model, which fail the job. This module loads no torch."""

from training.data.datasets import DatasetError
from worker.jobs.claims import Claim
from worker.stores.dataset_records import UnknownDataset
from worker.stores.models import UnknownModel
from worker.stores.room import StorageFull, is_full

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


def fail_for_storage(claim: Claim, error: OSError, what: str) -> None:
    """Fails a job whose files cannot be read or written.

    Args:
        claim: The claim on the job.
        error: The error.
        what: What failed, as the beginning of a sentence.
    """
    if isinstance(error, StorageFull):
        claim.fail("storage_full", str(error))
    else:
        claim.fail("storage_full" if is_full(error) else "storage_failed", f"{what}: {error}")
