"""The folder of a training run: the job's own folder in a local storage, else a local copy of it."""

import shutil
from pathlib import Path

from models.atomic import write_bytes
from training.checkpoints import CheckpointError, list_checkpoints, newest_checkpoint, write_checkpoint
from training.recorder import METRICS_FILE
from worker.jobs import files as job_files
from worker.jobs.claims import Claim
from worker.stores.opened import OpenStores
from worker.stores.storage import LocalStorage, NotStored


def fetch_run_folder(stores: OpenStores, job_id: str) -> Path:
    """Returns the folder of a job's run.

    Args:
        stores: The stores.
        job_id: Id of the job.

    Returns:
        The job's own folder in a local storage. Otherwise a folder in the cache, into which the files of an earlier
        attempt were copied that it lacked.
    """
    storage, prefix = stores.storage, job_files.folder(job_id)
    if isinstance(storage, LocalStorage):
        return storage.path(prefix)
    folder = stores.settings.cache_folder / "runs" / job_id
    try:
        stored = storage.local_folder(prefix)
    except NotStored:
        return folder
    for path in stored.rglob("*"):
        target = folder / path.relative_to(stored)
        if _is_wanted(path, target, at_top=path.parent == stored):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, path.read_bytes())
    return folder


def begin_from_run(stores: OpenStores, claim: Claim, folder: Path) -> None:
    """Copies the record and the newest checkpoint of the run that a job goes on with, unless an earlier attempt did.

    Args:
        stores: The stores.
        claim: The claim on the job.
        folder: Folder of the job's run.

    Raises:
        CheckpointError: That run has no intact checkpoint any more.
    """
    job_id = claim.job.request.get("run")
    if job_id is None or list_checkpoints(folder / "checkpoints"):
        return
    source = fetch_run_folder(stores, job_id)
    checkpoint = newest_checkpoint(source / "checkpoints")
    if checkpoint is None:
        raise CheckpointError(f"the run of the job {job_id} has no checkpoint any more")
    for name in ("previews", "best", "tensorboard"):
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
    if (source / METRICS_FILE).is_file():
        shutil.copyfile(source / METRICS_FILE, folder / METRICS_FILE)
    write_checkpoint(folder / "checkpoints", checkpoint, claim.fence)


def _is_wanted(path: Path, target: Path, *, at_top: bool) -> bool:
    """Returns whether a stored file belongs to the run and is newer than the local one.

    The files at the top are the job's own, except for the run's record, of which the longer one is the newer.
    """
    if at_top:
        return path.name == METRICS_FILE and not (target.exists() and target.stat().st_size >= path.stat().st_size)
    return path.is_file() and not path.name.startswith(".") and not target.exists()


class RunUpload:
    """Copies a run's files into a remote storage, again and again; what has not changed since is not copied again.

    Nothing happens with a local storage, in which the folder itself is.
    """

    def __init__(self, stores: OpenStores, job_id: str, folder: Path) -> None:
        """Takes what to copy.

        Args:
            stores: The stores.
            job_id: Id of the job.
            folder: The folder of its run.
        """
        self._storage, self._prefix, self._folder = stores.storage, job_files.folder(job_id), folder
        self._copied: dict[Path, tuple[int, int]] = {}

    def __call__(self) -> None:
        """Copies what is new, and removes the checkpoints there that were removed here."""
        if isinstance(self._storage, LocalStorage):
            return
        # A file that changes while it is copied has another state the next time.
        files = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        states = {path: _state(path) for path in files}
        changed = (path for path, state in states.items() if self._copied.get(path) != state)
        for path in sorted(changed, key=_upload_order):
            self._storage.put_file(f"{self._prefix}/{path.relative_to(self._folder).as_posix()}", path)
        self._copied = states
        for name in ("checkpoints", "best"):
            kept = {path.name for path in (self._folder / name).glob("*")}
            for other in set(self._storage.list(f"{self._prefix}/{name}")) - kept:
                self._storage.delete(f"{self._prefix}/{name}/{other}")


def _upload_order(path: Path) -> tuple[bool, bool, Path]:
    """Returns a file's place in an upload, after which a worker may die at any file.

    A checkpoint follows the record of the steps before it, and its description follows its tensors.
    """
    return path.parent.name == "checkpoints", path.suffix == ".json", path


def _state(path: Path) -> tuple[int, int]:
    """Returns the time of a file's last change, in ns, and its size, in bytes."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size
