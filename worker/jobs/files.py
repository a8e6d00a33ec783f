"""The files that keep a job in the storage: job.json (the request), state.json and result.json.

job.json is written once, before Redis knows the job. While a job is not finished, state.json holds its last
transition; when the job has finished, result.json takes its place. Each file carries the version of the record, so that
the newest wins. This module loads no torch.
"""

import json
import logging
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.jobs.records import FINISHED, KINDS, STATES, Job, job_from_hash, valid_job_id
from worker.stores.storage import NotStored, Storage

FORMAT_VERSION = 1
_CHECKPOINT = re.compile(r"\d+-(\d+)\.json")

log = logging.getLogger(__name__)

_TEXT_FIELDS = ("name", "model", "worker", "idempotency_key")
_TIME_FIELDS = ("started_at", "updated_at", "finished_at")
_JSON_FIELDS = ("estimate", "progress", "metrics", "result", "error", "warnings")


@dataclass(frozen=True)
class StoredJob:
    """A job as the storage has it, ready to be restored. The values of `fields` are the texts of a Redis hash."""

    id: str
    kind: str
    status: str
    version: int
    created_ms: int
    idempotency_key: str
    request_digest: str
    fields: dict[str, str]


def folder(job_id: str) -> str:
    """Returns the storage prefix of all files of a job."""
    return f"jobs/{job_id}"


def write_request(storage: Storage, job_id: str, description: dict[str, Any]) -> bool:
    """Writes job.json unless there is one. From then on the job is accepted, whatever happens to Redis.

    Returns:
        False if there is a job.json already, which stays.
    """
    text = json.dumps({"format_version": FORMAT_VERSION, **description}, indent=2, ensure_ascii=False) + "\n"
    return storage.create_bytes(f"{folder(job_id)}/job.json", text.encode())


def write_state(storage: Storage, job_id: str, record: dict[str, str]) -> None:
    """Writes the last transition of a job to result.json if the job is finished, else to state.json.

    The other of the two files is removed.

    Args:
        storage: Where the job's files are.
        job_id: Id of the job.
        record: The fields of the job's Redis hash.
    """
    state: dict[str, Any] = {"id": job_id, "status": record["status"], "version": int(record["version"])}
    state.update(
        {
            name: int(record[name])
            for name in ("fence", "attempts", "resumed_from_step", "finish", "announced")
            if name in record
        }
    )
    state.update({name: record[name] for name in _TEXT_FIELDS if name in record})
    state.update({name: int(record[name]) for name in _TIME_FIELDS if name in record})
    state.update({name: json.loads(record[name]) for name in _JSON_FIELDS if name in record})
    names = ("result.json", "state.json") if record["status"] in FINISHED else ("state.json", "result.json")
    storage.write_json(f"{folder(job_id)}/{names[0]}", state, reserve=True)
    storage.delete(f"{folder(job_id)}/{names[1]}")


def write_hand_back(storage: Storage, job_id: str, fence: int, progress: str | None) -> None:
    """Writes state.json for a job that its holder hands back; nothing happens if the storage knows another holder.

    Args:
        storage: Where the job's files are.
        job_id: Id of the job.
        fence: The fence of the holder.
        progress: The job's progress, as JSON; None leaves the stored one.
    """
    state = _newest_state(storage, job_id)
    to = {"running": "queued", "pausing": "paused"}.get(state.get("status", ""))
    if to is None or state.get("fence") != fence:
        return
    state |= {"status": to, "version": int(state["version"]) + 1}
    if progress is not None:
        state["progress"] = json.loads(progress)
    storage.write_json(f"{folder(job_id)}/state.json", state, reserve=True)


def stored_version(storage: Storage, job_id: str) -> int:
    """Returns the version of the last transition in the storage; 0 for a job that has made none."""
    return int(_newest_state(storage, job_id).get("version", 0))


def read_job(storage: Storage, job_id: str) -> StoredJob | None:
    """Reads a job from its files. Returns None if job.json is missing, or damaged, which is logged."""
    try:
        description = storage.read_json(f"{folder(job_id)}/job.json")
        if description["kind"] not in KINDS:
            raise ValueError(f"kind {description['kind']!r}")
        created_ms = int(datetime.fromisoformat(description["created_at"]).timestamp() * 1000)
    except NotStored:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("job %s: job.json cannot be read: %s", job_id, error)
        return None
    state = _newest_state(storage, job_id)
    status = state.get("status", "queued")
    fields = {"name": str(description.get("name", "")), "request": json.dumps(description["request"])}
    if description.get("estimate") is not None:
        fields["estimate"] = json.dumps(description["estimate"])
    key = description.get("idempotency_key") or ""
    if key:
        fields["idempotency_key"] = key
    if isinstance(description["request"], dict) and description["request"].get("webhook"):
        fields["webhook"] = "1"
    if description.get("request_id"):
        fields["request_id"] = str(description["request_id"])
    fields["attempts"] = str(state.get("attempts", 0))
    # The next fence must be above every earlier fence, even one that was not recorded.
    fence = max([int(state.get("fence", 0)), *_checkpoint_fences(storage, job_id)])
    fields["fence"] = str(fence if status not in ("queued",) else fence + 1)
    fields.update(
        {
            name: str(state[name])
            for name in ("resumed_from_step", "finish", "announced", *_TIME_FIELDS)
            if name in state
        }
    )
    fields.update({name: str(state[name]) for name in ("model", "worker") if name in state})
    fields.update({name: json.dumps(state[name]) for name in _JSON_FIELDS if name in state})
    return StoredJob(
        job_id,
        description["kind"],
        status,
        int(state.get("version", 0)),
        created_ms,
        key,
        str(description.get("request_digest", "")),
        fields,
    )


def stored_jobs(storage: Storage, kind: str) -> list[Job]:
    """Returns the jobs of a kind as the storage has them, the newest first."""
    found = [read_job(storage, job_id) for job_id in storage.list("jobs") if valid_job_id(job_id)]
    newest_first = sorted((one for one in found if one and one.kind == kind), key=lambda one: -one.created_ms)
    return [
        job_from_hash(
            {"id": one.id, "kind": kind, "status": one.status, "created_at": str(one.created_ms), **one.fields}
        )
        for one in newest_first
    ]


def _newest_state(storage: Storage, job_id: str) -> dict[str, Any]:
    """Returns the content of state.json or result.json, whichever has the higher version; empty if there is neither."""
    newest: dict[str, Any] = {}
    for name in ("state.json", "result.json"):
        try:
            state = storage.read_json(f"{folder(job_id)}/{name}")
            if state["status"] in STATES and int(state["version"]) > int(newest.get("version", 0)):
                newest = state
        except NotStored:
            continue
        except (ValueError, KeyError, TypeError) as error:
            log.warning("job %s: %s cannot be read: %s", job_id, name, error)
    return newest


def _checkpoint_fences(storage: Storage, job_id: str) -> list[int]:
    """Returns the fences in the names of the job's checkpoints."""
    names = storage.list(f"{folder(job_id)}/checkpoints")
    return [int(match[1]) for match in map(_CHECKPOINT.fullmatch, names) if match]
