"""Acceptance of training jobs: settings, data set and length of a request become a job."""

import hashlib
from typing import Any

from app import problems
from app.api.bodies import parse_json, parse_json_object
from app.api.dataset_uploads import check_filename, store_dataset_upload
from app.api.media import KeyLocks
from app.dependencies import Services
from app.requests import TrainJobForm, TrainJobRequest, check_body
from models.config import ConfigError
from models.info import validate_name
from training.config import (
    check_initial_network,
    config_from_json,
    config_to_json,
    over_inherited,
    settings_of_model,
    with_channels,
)
from training.lengths import OpenLength, estimate_of, num_training_images, open_length, speed_key
from training.presets import PRESETS, resolve
from worker.jobs.lengths import job_config
from worker.jobs.records import Job
from worker.jobs.speeds import known_speed
from worker.jobs.webhooks import WebhookRefused, check_webhook
from worker.stores.dataset_records import DatasetRecord, known_labels
from worker.stores.models import UnknownDataset, slug

_storing = KeyLocks()
"""Held while images of a digest are stored and their job is made."""
_OWN_FIELDS = ("preset", "minutes")
"""Fields of the body that the errors of a config may name."""


def create_job(services: Services, asked: TrainJobRequest, idempotency_key: str | None) -> Job:
    """Accepts a training job.

    Args:
        services: The services.
        asked: The body of the request.
        idempotency_key: The request's key, or None.

    Raises:
        Problem: A setting is wrong, or too many jobs wait.
        UnknownDataset: There is no such data set.
        UnknownModel: There is no such model to start from.
        BeingDeleted: Something that it needs is being deleted.
        JustDeleted: Something that it needs has been deleted meanwhile.
    """
    since = services.jobs.deletions.now()
    request, name, estimate = plan_job(services, asked)
    services.refuse_when_full()
    return services.jobs.create(
        "train",
        request,
        name=name,
        idempotency_key=idempotency_key,
        estimate=estimate,
        admit=services.admit,
        since=since,
    )


def estimate_job(services: Services, asked: TrainJobRequest) -> dict[str, Any]:
    """Returns the estimate that a training job of this request would have, and accepts none.

    Args:
        services: The services.
        asked: The body of the request.

    Raises:
        Problem: A setting is wrong.
        UnknownDataset: There is no such data set.
        UnknownModel: There is no such model to start from.
    """
    return plan_job(services, asked)[2]


def create_one_shot(services: Services, form: TrainJobForm, idempotency_key: str | None) -> Job:
    """Stores the images of a form as a data set, and accepts a job on it; the same images are stored once.

    Args:
        services: The services.
        form: The form.
        idempotency_key: The request's key, or None.

    Raises:
        Problem: A setting or the file is wrong, or too many jobs wait.
    """
    body = form.model_dump(by_alias=True, exclude_unset=True, exclude={"file"})
    if form.config:
        body["config"] = parse_json_object(form.config, "config")
    if form.evaluate:
        body["evaluate"] = parse_json(form.evaluate, "evaluate")
    if form.minutes:
        body["minutes"] = parse_json(form.minutes, "minutes")
    name = _resolved(services, check_body(TrainJobRequest, body))["name"]
    services.refuse_when_full()
    file = form.file.file
    filename = check_filename(form.file.filename)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    short = (name or "upload")[:40].strip()
    dataset, dataset_id = f"{short} {digest[:12]}", f"{slug(short)}_{digest[:16]}"  # No name makes an underscore.
    # Equal requests at the same time store the images once, and one that fails removes no images of another.
    with _storing[digest]:
        try:
            record = services.datasets.get(dataset_id)
            is_new = False
        except UnknownDataset:
            record = store_dataset_upload(services, dataset, file, filename, id=dataset_id)
            is_new = True
        try:
            return create_job(services, check_body(TrainJobRequest, {**body, "dataset": record.id}), idempotency_key)
        except Exception:
            if is_new:
                services.datasets.delete(record.id)
            raise


def webhook_field(services: Services, url: str | None) -> dict[str, str]:
    """Returns what the record of a request keeps of its field `webhook`.

    Raises:
        Problem: No message may be sent to the address.
    """
    if not url:
        return {}
    try:
        check_webhook(url, services.settings.webhook_host_names)
    except WebhookRefused as error:
        raise problems.invalid("webhook", str(error)) from None
    return {"webhook": url}


def plan_job(services: Services, asked: TrainJobRequest) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Returns what the record of a job keeps of a request, the name of the job, and its estimate.

    Args:
        services: The services.
        asked: The body of the request.

    Raises:
        Problem: A setting is wrong.
        UnknownDataset: There is no such data set.
        UnknownModel: There is no such model to start from.
    """
    webhook = webhook_field(services, asked.webhook)
    if asked.more_steps is not None:
        request, name, estimate = _planned_extension(services, asked, asked.more_steps)
        return request | webhook, name, estimate
    request = _resolved(services, asked) | webhook
    if not request["dataset"]:
        raise problems.invalid("dataset", "is missing")
    record = services.datasets.get(services.datasets.find(request["dataset"]))
    request["dataset"] = record.id
    config = config_from_json(request["config"])
    if labels := known_labels(record):
        try:
            config.objective.check_labels(*labels)
        except ConfigError as error:
            raise problems.invalid(f"config.{error.field}", error.message) from None
    if request["from"]:
        check_initial_network(config, services.models.info(request["from"]).network)
    name = request.pop("name") or record.name
    return request, name, _estimate(services, request, record)


def _planned_extension(
    services: Services, asked: TrainJobRequest, more_steps: int
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Plans a job that goes on with the run of a model, with its settings and its optimizer state.

    Raises:
        Problem: The request has settings, or the run of the model is gone.
        UnknownModel: There is no such model.
        UnknownDataset: The data set of the run is gone.
    """
    others = {name for name in asked.model_fields_set if getattr(asked, name) not in (None, "", ())}
    if extra := sorted(others - {"from_", "more_steps", "name", "evaluate", "webhook"}):
        raise problems.invalid("more_steps", f"goes on with the settings of the run; leave out {', '.join(extra)}")
    if not asked.from_:
        raise problems.invalid("more_steps", "needs from, the model whose run goes on")
    model = services.models.record(services.models.find(asked.from_))
    run = services.jobs.run_of(model.id)
    if run is None:
        raise problems.invalid(
            "more_steps", f"the service has no run of the model {model.id}; without more_steps its weights are trained"
        )
    dataset = services.datasets.get(run.request["dataset"])
    name = (asked.name or "").strip()
    begin = int((run.result or {})["step"])
    request: dict[str, Any] = {
        "dataset": dataset.id,
        "preset": run.request.get("preset"),
        "config": job_config(run),
        "length": None,
        "from": model.id,
        "run": run.id,
        "extend_to": begin + more_steps,
        "evaluate": list(asked.evaluate),
    }
    config = config_from_json(request["config"]).replace(num_steps=more_steps, num_epochs=None)
    config = with_channels(config, model.info.network.num_channels)
    num_training = num_training_images(config, model.info.dataset["num_images"])
    known = known_speed(services.jobs.redis, speed_key(config))
    speed = None if known is None else known.images_per_second
    estimate = {**estimate_of(config, num_training, speed).to_json(), "settled": True}
    return request, validate_name(name) if name else model.info.name, estimate


def _resolved(services: Services, asked: TrainJobRequest) -> dict[str, Any]:
    """Returns what the job's record keeps of a request: every setting is written out.

    The settings of the network come from the initial model where the request gives none.

    Raises:
        Problem: A setting is wrong; it names the field.
        UnknownModel: There is no such model to start from.
    """
    # The config of an earlier job, which may be posted again, has null for a length that was open.
    given = {name: value for name, value in asked.overrides.items() if name != "num_steps" or value is not None}
    model = services.models.find(asked.from_) if asked.from_ else None
    inherited = {} if model is None else settings_of_model(services.models.info(model))
    try:
        config = resolve(asked.preset, over_inherited(inherited, given), from_model=bool(asked.from_))
        length = open_length(given, has_preset=asked.preset is not None, minutes=asked.minutes)
    except ConfigError as error:
        field = error.field if error.field in _OWN_FIELDS else f"config.{error.field}"
        raise problems.invalid(field, error.message) from None
    name = (asked.name or "").strip()
    return {
        "name": validate_name(name) if name else "",
        "dataset": asked.dataset or (PRESETS[asked.preset].dataset if asked.preset else None),
        "preset": asked.preset,
        "config": config_to_json(config),
        "length": None if length is None else length.to_json(),
        "from": model,
        "evaluate": list(asked.evaluate),
    }


def _estimate(services: Services, request: dict[str, Any], record: DatasetRecord) -> dict[str, Any]:
    """Returns the length and the duration of a training, as far as they are known before a worker has begun it.

    An open length is settled where a worker's speed in an earlier run is known; otherwise the worker settles it.

    Raises:
        Problem: The budget of time is too short for one validation.
    """
    config = config_from_json(request["config"])
    if record.packs:
        config = with_channels(config, record.packs[0]["num_channels"])
    num_images = services.datasets.num_images(record.id)
    num_training = num_training_images(config, num_images) if num_images else None
    known = known_speed(services.jobs.redis, speed_key(config))
    speed = None if known is None else known.images_per_second
    length = OpenLength.from_json(request["length"])
    if length is None:
        return {**estimate_of(config, num_training, speed).to_json(), "settled": True}
    try:
        num_steps = length.num_steps(config, num_training, speed)
    except ConfigError as error:
        raise problems.invalid(error.field, error.message) from None
    if num_steps is None:
        seconds = None if length.minutes is None else round(60 * length.minutes)
        return {"num_steps": None, "seconds": seconds, "passes": None, "settled": False}
    found = estimate_of(length.laid_out(config, num_steps), num_training, speed)
    return {**found.to_json(), "settled": known is not None and known.is_of_run}
