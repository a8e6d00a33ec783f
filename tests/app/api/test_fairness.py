"""Work of one kind, or of one client, leaves room for that of others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import Service, answering_calls, picture, service

IMAGE = {"image": ("a.png", picture(), "image/png")}


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    """A service that answers calls, but whose render queue nobody consumes."""
    with service(tmp_path / "home", redis_process) as running, answering_calls(running.settings):
        yield running


def test_a_call_does_not_wait_for_the_traversals_before_it(api: Service) -> None:
    for seed in range(20):
        form = {"model": "tiny", "seed": str(seed)}
        assert api.client.post("/traversals", data=form, headers={"Prefer": "wait=0"}).status_code == 202
    answer = api.client.post("/models/tiny/encode", files=IMAGE, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
