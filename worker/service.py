"""A worker process: one queue, one Celery worker with all its settings, a sweeper, a heartbeat."""

import importlib
import logging
import os
import sys
import time
import warnings

from celery.apps import worker as celery_worker
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from redis.exceptions import RedisError

from worker.consumer import heartbeat_step
from worker.jobs.connections import connect
from worker.jobs.queue import make_celery
from worker.jobs.sweeper import Sweeper
from worker.runtime import Runtime, runtime
from worker.stores.settings import Settings, SettingsError, load_settings, set_up_logging, without_password

_PRELOADED = {
    "train": ("torch._dynamo", "worker.train_job", "worker.evaluation_job"),
    "render": ("worker.render_job",),
}
CONCURRENCY = {"train": 1, "render": 3}
"""Three for render: beside a packing, which a child process does, two traversals are made at once."""
STILL_WAITING_SECONDS = 30.0

log = logging.getLogger(__name__)


def run_worker(queue: str) -> int:
    """Works on a queue until it is told to stop. Returns the exit status."""
    try:
        settings = load_settings()
        if settings.redis_url is None:
            raise SettingsError("BETAVAE_REDIS_URL is not set; `betavae serve` starts a Redis and the workers")
        set_up_logging(settings)
        settings.make_temporary_folder()  # Before anyone asks for a temporary file: Python would settle for /tmp.
        os.environ["TMPDIR"] = str(settings.temporary_folder)
        # A container's home may be read-only and its /tmp new: the fonts would be looked for in each one.
        os.environ.setdefault("MPLCONFIGDIR", str(settings.cache_folder / "matplotlib"))
        device = _prepare_torch(queue, settings)
        services = runtime()
        _check_writable(services)
    except (SettingsError, ValueError, OSError) as error:
        print(f"worker {queue}: {error}", file=sys.stderr)
        return 2
    _wait_for_redis(settings)
    log.info("worker %s %s: device %s, storage %s", queue, services.name, device, without_password(settings.storage))
    if queue == "train" and device == "cpu":
        from models.convolutions import loader as convolutions

        log.info("worker %s %s: convolutions %s", queue, services.name, convolutions.describe())
    return _consume(queue, services, device)


def _prepare_torch(queue: str, settings: Settings) -> str:
    # By default threads that wait for each other spin. On two cores with ten other processes, a step of a small network
    # took 2584 ms so, and 62 ms when they sleep. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if queue == "render":
        os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from training.device import pick_device

    if queue == "render":
        # Measured on two shared cores: with two threads a small decoder is slower than with one.
        torch.set_num_threads(1)
    device = str(pick_device(settings.device))
    # Now rather than in the first job: a busy machine takes half a minute, in which a job cannot be stopped.
    for module in _PRELOADED[queue]:
        importlib.import_module(module)
    return device


def _check_writable(services: Runtime) -> None:
    """Raises OSError, naming the storage, when nothing can be written there."""
    key = f"workers/{services.name}"
    try:
        services.storage.write_bytes(key, b"")
        services.storage.delete(key)
    except OSError as error:
        raise OSError(f"the storage {services.settings.storage} cannot be written: {error}") from error


def _wait_for_redis(settings: Settings) -> None:
    """Returns when Redis answers; says now and then, in one line, that it does not."""
    assert settings.redis_url is not None
    client = connect(settings.redis_url)
    said = float("-inf")
    while True:
        try:
            client.ping()
            return
        except RedisError as error:
            if time.monotonic() - said > STILL_WAITING_SECONDS:
                said = time.monotonic()
                log.warning("waiting for Redis at %s: %s", without_password(settings.redis_url), error)
            time.sleep(0.5)
        finally:
            client.close()


def _consume(queue: str, services: Runtime, device: str) -> int:
    app = make_celery(services.settings)
    # A training worker that fetched a second message would keep it from an idle one for hours.
    app.conf.worker_disable_prefetch = queue == "train"
    app.conf.worker_consumer = "worker.consumer:Consumer"
    app.steps["consumer"].add(heartbeat_step(queue, services, device))
    warnings.filterwarnings("ignore", category=SecurityWarning)  # In a container, root is nobody else's root.
    setup_logging.connect(_keep_logging)
    celery_worker.safe_say = _say_nothing
    sweeper = Sweeper(services.jobs)
    sweeper.start()
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
        sweeper.stop()
    log.info("worker %s %s: stopped", queue, services.name)
    return int(worker.exitcode or 0)


def _say_nothing(*_: object, **__: object) -> None:
    """Instead of Celery's own lines about its shutdown, which pass by the log; worker.tasks says what happens."""


def _keep_logging(**_: object) -> None:
    """Celery sets up no logging of its own while somebody listens to this signal."""
