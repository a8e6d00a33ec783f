"""Acceptance of sweeps: every member's settings are checked before anything is accepted."""

from typing import Any

from fastapi import Request

from app import problems
from app.api.train_requests import plan_job, webhook_field
from app.authorization import find_token
from app.dependencies import Services
from app.problems import Problem
from app.requests import SweepRequest, TrainJobRequest, check_body
from models.config import ConfigError
from models.info import validate_name
from training.presets import PRESETS
from worker.sweeps.grid import cell_text, expand, member_name
from worker.sweeps.records import Member, Sweep

_SHARED = ("name", "dataset", "preset", "minutes", "from", "evaluate")
"""Fields that all members have from the request; an error in one of them is reported once, for the request."""
LONGEST_NAME = 60
"""Characters of a sweep's name, beside which the settings of a member have room."""


def accept_sweep(services: Services, asked: SweepRequest, idempotency_key: str | None) -> Sweep:
    """Accepts a sweep.

    Args:
        services: The services.
        asked: The body of the request.
        idempotency_key: The request's key, or None.

    Raises:
        Problem: A setting of a member is wrong, or too many jobs wait.
        UnknownDataset: There is no such data set.
        UnknownModel: There is no such model to start from.
        BeingDeleted: Something that the members need is being deleted.
        JustDeleted: Something that they need has been deleted meanwhile.
    """
    since = services.jobs.deletions.now()
    shared = asked.config.root if asked.config else {}
    settings = expand(asked.grid, asked.members, shared)
    name = _name(services, asked)
    field = "grid" if asked.grid is not None else "members"
    members = [
        _member(services, asked, member_name(name, index, own), field, own) for index, own in enumerate(settings)
    ]
    webhook = webhook_field(services, asked.webhook)
    services.refuse_when_full()
    request: dict[str, Any] = {
        "dataset": members[0].request["dataset"],
        "preset": asked.preset,
        "config": shared,
        "grid": asked.grid,
        "from": members[0].request["from"],
        "minutes": asked.minutes,
        "evaluate": list(asked.evaluate),
        "max_running": asked.max_running,
        "make_default": asked.make_default,
        "members": [member.settings for member in members],
        **webhook,
    }
    return services.sweeps.create(
        request, members, name=name, idempotency_key=idempotency_key, admit=services.admit, since=since
    )


def check_may_make_default(services: Services, asked: SweepRequest, request: Request) -> None:
    """Checks that the caller may choose the default model, where the sweep is to do it.

    Raises:
        Problem: The caller's token has not the scope admin (scope_missing).
    """
    if not asked.make_default or not services.tokens.exist():
        return
    token = find_token(services.tokens, request.headers)
    if token is None or not token.allows("admin"):
        raise Problem("scope_missing", "make_default chooses the default model, which needs the scope admin.")


def _name(services: Services, asked: SweepRequest) -> str:
    """Returns the name of the sweep, which without one is that of its data set.

    Raises:
        Problem: The name is not allowed, or there is no data set.
    """
    name = (asked.name or "").strip()
    if not name:
        dataset = asked.dataset or (PRESETS[asked.preset].dataset if asked.preset in PRESETS else None)
        if not dataset:
            raise problems.invalid("dataset", "is missing")
        return services.datasets.get(services.datasets.find(dataset)).name[:LONGEST_NAME].strip()
    if len(name) > LONGEST_NAME:
        raise problems.invalid("name", f"must have at most {LONGEST_NAME} characters")
    return validate_name(name)


def _member(services: Services, asked: SweepRequest, name: str, field: str, own: dict[str, Any]) -> Member:
    """Returns one member with its job as it will be made.

    Args:
        services: The services.
        asked: The body of the request.
        name: Name of the member.
        field: The field of the body that its settings come from.
        own: The settings in which it differs from the others.

    Raises:
        Problem: Its settings are wrong; the message names the cell.
    """
    body = {
        "name": name,
        "dataset": asked.dataset,
        "preset": asked.preset,
        "config": {**(asked.config.root if asked.config else {}), **own},
        "minutes": asked.minutes,
        "from": asked.from_,
        "evaluate": list(asked.evaluate),
    }
    what = f"{'cell' if field == 'grid' else 'entry'} {cell_text(own)}"
    try:
        request, full_name, estimate = plan_job(services, check_body(TrainJobRequest, body))
    except ConfigError as error:
        raise problems.invalid(field, f"{what}: {error.field}: {error.message}") from None
    except Problem as problem:
        if problem.code != "invalid_request" or {error["field"] for error in problem.errors} & set(_SHARED):
            raise
        raise problems.invalid(field, f"{what}: {problem.detail.removeprefix('config.')}") from None
    return Member(name=full_name, settings=own, request=request, estimate=estimate)
