"""Descriptions of how processes ended."""

from worker.stores.processes import exit_text


def test_an_exit_status_is_described() -> None:
    assert exit_text(2) == "exited with code 2"
    assert exit_text(-9) == "was killed by SIGKILL"
    assert exit_text(-999) == "was killed by signal 999"
