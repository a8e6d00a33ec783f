"""The service that the whole corpus is sent to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.running import Running, running_service


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole service on a data folder of its own."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is measured in /proc")
    with running_service(tmp_path_factory.mktemp("corpus")) as service:
        yield service
        print(f"\npeaks of memory: {service.report()}")
