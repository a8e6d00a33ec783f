"""A worker process: a Celery worker on one queue, a sweeper and a heartbeat."""

import importlib
import logging
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING

from celery.apps import worker as celery_worker
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from redis.exceptions import RedisError

from worker.consumer import heartbeat_step
from worker.jobs.connections import connect
from worker.jobs.queue import make_celery
from worker.jobs.storage_identity import claim_database
from worker.jobs.sweeper import Sweeper
from worker.jobs.webhooks import Notifier
from worker.runtime import Runtime, runtime
from worker.stores.logs import set_up_logging
from worker.stores.redis_urls import without_password
from worker.stores.room import is_full, remove_leftovers
from worker.stores.settings import Settings, SettingsError, load_settings
from worker.sweeps.notices import SweepNotices

if TYPE_CHECKING:
    from worker.render_calls import CallConsumer

_PRELOADED = {
    "train": ("torch._dynamo", "worker.train_job", "worker.evaluation_job"),
    "render": ("worker.render_job", "worker.render_calls"),
}
CONCURRENCY = {"train": 1, "render": 3}
"""Number of jobs at once on each queue. Beside a packing in a child process, two traversals are rendered at once."""
STILL_WAITING_SECONDS = 30.0

log = logging.getLogger(__name__)


def run_worker(queue: str) -> int:
    """Consumes a queue until the process is asked to stop. Returns the exit status."""
    try:
        settings = load_settings()
        if settings.redis_url is None:
            raise SettingsError("BETAVAE_REDIS_URL is not set; `betavae serve` starts a Redis and the workers")
        set_up_logging(settings)
        settings.make_temporary_folder()  # Python would otherwise choose /tmp for its first temporary file.
        remove_leftovers(settings.temporary_folder)
        os.environ["TMPDIR"] = str(settings.temporary_folder)
        # The cache of fonts must last: a container's home may be read-only, and its /tmp is new each time.
        os.environ.setdefault("MPLCONFIGDIR", str(settings.cache_folder / "matplotlib"))
        device = _prepare_torch(queue, settings)
        services = runtime()
        _check_writable(services)
    except (SettingsError, ValueError, OSError) as error:
        print(f"worker {queue}: {error}", file=sys.stderr)
        return 2
    _wait_for_redis(settings)
    try:
        claim_database(settings, services.storage)
    except SettingsError as error:
        print(f"worker {queue}: {error}", file=sys.stderr)
        return 2
    if queue == "train":
        from worker.estimates import calibrate

        calibrate(services, device)
    log.info("worker %s %s: device %s, storage %s", queue, services.name, device, without_password(settings.storage))
    if queue == "train" and device == "cpu":
        from models.convolutions import loader as convolutions

        log.info("worker %s %s: convolutions %s", queue, services.name, convolutions.describe())
    return _consume(queue, services, device)


def _prepare_torch(queue: str, settings: Settings) -> str:
    """Loads torch and the modules of the queue's jobs. Returns the device."""
    # By default, threads that wait for each other spin. On two cores with ten other processes, a step of a small
    # network took 2584 ms that way, and 62 ms with threads that sleep. torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if queue == "render":
        os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from training.device import pick_device

    if queue == "render":
        # On two shared cores, a small decoder was slower with two threads than with one.
        torch.set_num_threads(1)
    device = str(pick_device(settings.device))
    # On a busy machine the imports take half a minute, during which a job could not be stopped.
    for module in _PRELOADED[queue]:
        importlib.import_module(module)
    return device


def _check_writable(services: Runtime) -> None:
    """Checks that the storage can be written.

    Raises:
        OSError: The storage cannot be written; the text names it.
    """
    key = f"workers/{services.name}"
    try:
        services.storage.write_bytes(key, b"", reserve=True)
        services.storage.delete(key)
    except OSError as error:
        if is_full(error):  # The worker can still answer calls, and go on once there is room.
            log.warning("the storage %s is full", services.settings.storage)
            return
        raise OSError(f"the storage {services.settings.storage} cannot be written: {error}") from error


def _wait_for_redis(settings: Settings) -> None:
    """Waits until Redis answers, and logs a line now and then while it does not."""
    assert settings.redis_url is not None
    client = connect(settings.redis_url)
    logged = float("-inf")
    while True:
        try:
            client.ping()
            return
        except RedisError as error:
            if time.monotonic() - logged > STILL_WAITING_SECONDS:
                logged = time.monotonic()
                log.warning("waiting for Redis at %s: %s", without_password(settings.redis_url), error)
            time.sleep(0.5)
        finally:
            client.close()


def _consume(queue: str, services: Runtime, device: str) -> int:
    """Runs the Celery worker and the sweeper until the process is asked to stop. Returns the exit status."""
    app = make_celery(services.settings)
    # A training worker that fetched a second message would keep it from an idle worker for hours.
    app.conf.worker_disable_prefetch = queue == "train"
    app.conf.worker_consumer = "worker.consumer:Consumer"
    app.steps["consumer"].add(heartbeat_step(queue, services, device))
    warnings.filterwarnings("ignore", category=SecurityWarning)  # In a container, running as root is no risk to others.
    setup_logging.connect(_keep_logging)
    celery_worker.safe_say = _say_nothing
    sweeper = Sweeper(services.jobs, also=services.sweeps.advance_all)
    notifier = Notifier(services.jobs, services.settings, SweepNotices(services.sweeps))
    sweeper.start()
    notifier.start()
    calls = _calls(services) if queue == "render" else None
    worker = app.Worker(
        hostname=f"{queue}-{os.getpid()}@%h",
        pool="threads",
        concurrency=CONCURRENCY[queue],
        queues=[queue],
        quiet=True,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    try:
        worker.start()
    finally:
        notifier.stop()
        sweeper.stop()
        if calls is not None:
            calls.stop()
    log.info("worker %s %s: stopped", queue, services.name)
    return int(worker.exitcode or 0)


def _calls(services: Runtime) -> "CallConsumer":
    """Starts the threads that answer calls."""
    from worker.render_calls import CallConsumer

    calls = CallConsumer(services)
    calls.start()
    return calls


def _say_nothing(*_: object, **__: object) -> None:
    """Replaces Celery's messages about its shutdown, which bypass the log; worker.tasks logs the shutdown."""


def _keep_logging(**_: object) -> None:
    """Keeps Celery from setting up logging of its own, which it does unless this signal has a receiver."""
