"""Generated requests: none is answered with a 500, and every failure has the same shape."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from api_support import Service, service
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.api.datasets import RAW_TYPES
from app.main import create_app
from worker.stores.settings import Settings

load_all_checks()


@schemathesis.serializer(*RAW_TYPES)
def as_it_is(ctx: Any, value: Any) -> bytes:
    """Returns the generated body of a raw upload unchanged."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


MAX_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))
"""FUZZ_EXAMPLES=500 is the long run."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXPECTED_503 = ("workers_busy", "storage_full")


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers, in which every job waits or is refused."""
    with service(tmp_path_factory.mktemp("fuzz"), redis_process, max_waiting_jobs=20) as running:
        yield running


# Event streams do not end without a worker.
schema = schemathesis.openapi.from_dict(create_app(Settings(home=Path("nowhere"))).openapi()).exclude(
    path_regex="events$"
)


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=MAX_EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_no_request_breaks_the_api(case: "Case[Any]", api: Service) -> None:
    answer = case.call(base_url=api.url, headers={"Prefer": "wait=0"}, timeout=30)
    body = answer.json() if answer.status_code >= 400 and answer.content else {}
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]
    checks = CHECKS[1:] if body.get("code") in EXPECTED_503 else CHECKS
    case.validate_response(answer, checks=checks)
