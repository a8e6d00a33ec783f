"""The addresses at which the service answers, as the launcher prints them."""

import socket


def local_address(host: str, port: int) -> str:
    """Returns the URL to open in a browser on this machine."""
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{local}:{port}"


def network_address(host: str, port: int) -> str | None:
    """Returns the URL for other machines, or None where only this one is served or no network is there.

    Args:
        host: The host that the service listens on.
        port: Its port.
    """
    if host not in ("0.0.0.0", "::"):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # An address of the documentation; a datagram socket sends nothing here.
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else f"http://{address}:{port}"
