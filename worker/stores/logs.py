"""Log lines for people or, as JSON, for programs, and the request and job that they belong to. It loads no torch."""

import logging
import re
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

from worker.stores.settings import Settings

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the HTTP request that this thread or coroutine works for; empty where there is none."""
JOB_ID: ContextVar[str] = ContextVar("job_id", default="")
"""The id of the job that this thread works on; empty where there is none."""
ACCESS = "app.access"
"""The logger that has a line for each answer of the HTTP process; JSON alone shows it."""

_OF_JOB = re.compile(r"job ([A-Za-z0-9_-]{1,128}): ")
"""What every line about a job begins with, also in threads that work on none."""
_QUIET = ("celery", "kombu", "amqp", "PIL", "fsspec", "asyncio", "matplotlib", "httpx", "httpcore")


class _Context(logging.Filter):
    """Adds `request_id` and `job_id` to each record that belongs to a request or a job."""

    def filter(self, record: logging.LogRecord) -> bool:
        named = _OF_JOB.match(record.getMessage())
        for name, value in (("request_id", REQUEST_ID.get()), ("job_id", named[1] if named else JOB_ID.get())):
            if value:
                setattr(record, name, value)
        return True


class _OneLine(logging.Formatter):
    """Turns messages of several lines into one line, which ends with the request; tracebacks stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = " ".join(super().formatMessage(record).split("\n")).rstrip()
        request_id = getattr(record, "request_id", "")
        return f"{line} [request {request_id}]" if request_id else line


def set_up_logging(settings: Settings) -> None:
    """Logs one line per event to standard error; libraries log only warnings and errors."""
    is_json = settings.log_format == "json"
    handler = logging.StreamHandler()
    handler.addFilter(_Context())
    if is_json:
        names = {"levelname": "level", "name": "logger"}
        handler.setFormatter(
            JsonFormatter("{levelname}{name}{message}", style="{", rename_fields=names, timestamp="time")
        )
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(is_json)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(ACCESS).setLevel(logging.NOTSET if is_json else logging.WARNING)
    # The only warning of this logger is that it looks for fonts for the first time.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
