"""A TLS front of a server on a Unix socket, since the Redis that the tests install has no TLS of its own."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme


@contextmanager
def serve_tls(socket_path: str, authority: Path) -> Iterator[int]:
    """Runs the front in a thread, with a certificate for localhost, and yields its port.

    Args:
        socket_path: The socket of the server behind it.
        authority: Receives the certificate of the authority that signed the front's own.
    """
    signer = trustme.CA()
    signer.cert_pem.write_to_path(str(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    signer.issue_cert("localhost").configure_cert(context)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_unix_connection(socket_path)
        await asyncio.gather(copy(reader, to_behind), copy(behind, writer))

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # Clients that refuse the certificate, or are killed, break their end.
    server = loop.run_until_complete(asyncio.start_server(forward, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
