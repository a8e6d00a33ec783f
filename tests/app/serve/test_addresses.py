"""The addresses that the launcher prints."""

import re

import pytest

from app.serve.addresses import local_address, network_address


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.168.7.8", "http://192.168.7.8:8000"),
    ],
)
def test_a_browser_on_this_machine_opens(host: str, address: str) -> None:
    assert local_address(host, 8000) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "192.168.7.8"])
def test_only_a_service_on_all_addresses_has_another_for_other_machines(host: str) -> None:
    assert network_address(host, 8000) is None


def test_the_address_for_other_machines_is_none_of_this_machine_alone() -> None:
    address = network_address("0.0.0.0", 8000)
    assert address is None or re.fullmatch(r"http://(?!127\.)[\d.]+:8000", address)
