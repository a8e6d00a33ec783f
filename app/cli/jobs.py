"""`betavae jobs`: lists, shows and steers the training jobs of the service on this data folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from app.cli.output import CliError, note, print_table
from app.cli.stores import Stores, open_stores
from worker.jobs.files import stored_jobs
from worker.jobs.lengths import is_open, job_config
from worker.jobs.queue import open_job_store
from worker.jobs.records import Job, JobStoreUnavailable, TransitionRefused, UnknownJob
from worker.jobs.store import JobStore
from worker.progress_text import duration_text
from worker.stores.ids import id_of_name

app = typer.Typer(help="List, show and steer the training jobs of the service.", invoke_without_command=True)

JobArgument = Annotated[str, typer.Argument(help="The id or the name of the job.", metavar="JOB")]
MAX_LISTED = 1000


@app.callback()
def default(context: typer.Context) -> None:
    """Lists the jobs if no command is given."""
    if context.invoked_subcommand is None:
        list_jobs()


@app.command("list")
def list_jobs(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
) -> None:
    """List the training jobs, the newest first. Without a running service they are shown as they were stored."""
    stores = open_stores()
    try:
        with _job_store(stores) as jobs:
            found = jobs.page("train", limit=MAX_LISTED)
    except JobStoreUnavailable:
        note("the service does not run; these are the jobs as they were stored")
        found = stored_jobs(stores.storage, "train")[:MAX_LISTED]
    if as_json:
        print(json.dumps([_described(job) for job in found], indent=2))
        return
    print_table(
        ("id", "name", "status", "done", "left", "model"), [_row(job) for job in found], whole=("id", "model", "status")
    )


def _row(job: Job) -> list[str]:
    progress = job.to_json()["progress"]
    left = progress["eta_seconds"] if job.status == "running" else None
    return [
        job.id,
        job.name,
        job.status,
        f"{100 * progress['fraction']:.0f} %" if progress["num_steps"] else "",
        "" if left is None else duration_text(left),
        job.model or "",
    ]


@app.command()
def show(job: JobArgument) -> None:
    """Show a job as JSON: its state, settings, estimate, progress and newest losses."""
    stores = open_stores()
    try:
        with _job_store(stores) as jobs:
            found = jobs.find("train", job)
    except JobStoreUnavailable:
        note("the service does not run; this is the job as it was stored")
        stored = {one.id: one for one in stored_jobs(stores.storage, "train")}
        named = job if job in stored else id_of_name("jobs", job, ((one.id, one.name) for one in stored.values()))
        if named is None:
            raise CliError(f"there is no job with the id or the name {job}") from None
        found = stored[named]
    except UnknownJob as error:
        raise CliError(f"there is no job with the id or the name {job}") from error
    if is_open(found) and not found.is_finished:
        note("the number of steps is settled when a worker begins the job")
    print(json.dumps(_described(found), indent=2))


def _described(job: Job) -> dict[str, Any]:
    """Returns the public fields of a job, with the length that it has among its settings."""
    described = job.to_json()
    described["request"] = {**described["request"], "config": job_config(job)}
    return described


ACTIONS = {
    "cancel": "Stop a job: at once if it waits, within a step if it runs.",
    "pause": "Stop a running job after a checkpoint, until it is resumed.",
    "resume": "Requeue a paused job, which continues from its checkpoint.",
    "finish": "End a training early, with a cooldown, and keep its model.",
    "retry": "Requeue a failed or cancelled job.",
}


def _add_action(action: str, text: str) -> None:
    def act(job: JobArgument) -> None:
        with _steered(job) as (jobs, found):
            changed = getattr(jobs, action)(found.id)
        print(f"{changed.id} ({changed.name}): {changed.status}")

    app.command(action, help=text)(act)


for _action, _text in ACTIONS.items():
    _add_action(_action, _text)


@app.command()
def delete(job: JobArgument) -> None:
    """Remove a finished job with its checkpoints and previews; its model stays."""
    with _steered(job) as (jobs, found):
        jobs.delete(found.id)
    print(f"{found.id} ({found.name}): deleted" + (f"; the model {found.model} stays" if found.model else ""))


@contextmanager
def _job_store(stores: Stores) -> Iterator[JobStore]:
    """Opens the job store of the service, whose Redis need not answer."""
    settings = stores.settings
    redis_url = settings.redis_url or settings.embedded_redis_url
    jobs = open_job_store(settings.model_copy(update={"redis_url": redis_url}), stores.storage, patient=False)
    try:
        yield jobs
    finally:
        jobs.redis.close()


@contextmanager
def _steered(job: str) -> Iterator[tuple[JobStore, Job]]:
    """Opens the job store with a job to change, and turns what can go wrong into errors of one line.

    Raises:
        CliError: The service does not run, there is no such job, or its state does not allow the change.
    """
    stores = open_stores()
    try:
        with _job_store(stores) as jobs:
            yield jobs, jobs.find("train", job)
    except JobStoreUnavailable as error:
        raise CliError(f"the service on {stores.settings.home} does not run; `betavae serve` starts it") from error
    except UnknownJob as error:
        raise CliError(f"there is no job with the id or the name {job}") from error
    except TransitionRefused as error:
        raise CliError(str(error)) from error
