"""Log lines as text and as JSON, with the request and the job that they belong to."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Literal

import pytest
from celery import Celery

from worker import tasks
from worker.stores.logs import ACCESS, JOB_ID, REQUEST_ID, set_up_logging
from worker.stores.settings import Settings

Read = Callable[[], list[str]]
SetUp = Callable[[Literal["text", "json"]], Read]


@pytest.fixture
def set_up(capsys: pytest.CaptureFixture[str]) -> Iterator[SetUp]:
    """Sets up a format of the log, and returns a function that returns the lines since its last call."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(log_format: Literal["text", "json"]) -> Read:
        set_up_logging(Settings(log_format=log_format))
        return lambda: capsys.readouterr().err.splitlines()

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_line_of_json_has_time_level_logger_and_message(set_up: SetUp) -> None:
    read = set_up("json")
    logging.getLogger("some.where").warning("%d things\nin two lines", 2)
    (line,) = map(json.loads, read())
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"level": "WARNING", "logger": "some.where", "message": "2 things\nin two lines"}


def test_traces_and_warnings_are_json_too(set_up: SetUp) -> None:
    read = set_up("json")
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("x").exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("odd", UserWarning, stacklevel=1)
    failed, warned = map(json.loads, read())
    assert failed["exc_info"].endswith("KeyError: 'lost'")
    assert warned["logger"] == "py.warnings" and "UserWarning: odd" in warned["message"]


def test_a_task_of_celery_names_its_request_and_its_job(set_up: SetUp) -> None:
    """The signals of worker.tasks do so, and the thread's next task does not inherit them."""
    assert tasks.run_job is not None
    app = Celery("test", broker="memory://", set_as_current=False)

    def speak(fails: bool) -> None:
        logging.getLogger("x").info("working")
        if fails:
            raise ValueError("no")

    work, read = app.task(speak), set_up("json")
    work.apply([True], headers={"request_id": "r-1", "job_id": "j-1"})
    work.apply([False])
    working, failed, idle = map(json.loads, read())
    assert (working["request_id"], working["job_id"]) == ("r-1", "j-1")
    assert (failed["logger"], failed["request_id"], failed["job_id"]) == ("celery.app.trace", "r-1", "j-1")
    assert not {"request_id", "job_id"} & set(idle)
    assert REQUEST_ID.get() == JOB_ID.get() == ""


def test_a_line_about_a_job_names_it_in_every_thread(set_up: SetUp) -> None:
    read = set_up("json")
    logging.getLogger("x").info("job %s: paused", "j-07")
    logging.getLogger("x").info("jobs: 7")
    about, other = map(json.loads, read())
    assert about["job_id"] == "j-07" and "job_id" not in other


def test_a_line_of_text_ends_with_the_request(set_up: SetUp) -> None:
    read = set_up("text")
    token: Any = REQUEST_ID.set("r-1")
    logging.getLogger("x").info("job j-1: accepted")
    REQUEST_ID.reset(token)
    logging.getLogger("x").info("job j-1: accepted")
    logging.getLogger(ACCESS).info("GET / 200")
    of_request, of_none = read()
    assert of_request.endswith(" INFO    x: job j-1: accepted [request r-1]")
    assert of_none.endswith(" INFO    x: job j-1: accepted")
