"""Signed messages to addresses that jobs and sweeps name, when they end, after the Standard Webhooks specification 1.0.

The script that ends a job puts it on a list of what is due, in the same step; a job that is restored from the storage
comes back onto the list unless its message was taken. The store of sweeps does both for a sweep. A thread of each
worker sends what is due. Whoever takes one from the list first moves it to the time of its next attempt, so that a
worker that dies meanwhile loses no message: each is sent at least once, and its `webhook-id` says which are the same.
This module loads no torch.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import httpx

from worker.jobs.records import Job, JobStoreUnavailable, UnknownJob
from worker.jobs.store import JobStore
from worker.stores.logs import REQUEST_ID
from worker.stores.settings import Settings

FIRST_DELAY_SECONDS, DELAY_FACTOR, LONGEST_DELAY_SECONDS = 10, 3, 6 * 3600
MAX_ATTEMPTS = 12
"""Attempts before a message is given up, after 33 hours."""
SEND_SECONDS = 8.0
"""Longest exchange, from connecting to the answer's headers: less than the time to the next attempt."""
LOOK_SECONDS = 2.0
MAX_URL_LENGTH = 2048
GONE = 410
"""The status with which a receiver says that it wants no more messages."""

_URL = re.compile(r"[!-~]+")
_PORTS = {"http": 80, "https": 443}

log = logging.getLogger(__name__)


class WebhookRefused(ValueError):
    """A message must not be sent to this address; the text is for people."""


def check_webhook(url: str, hosts: Collection[str]) -> None:
    """Checks that a message may be sent to an address.

    Args:
        url: The address.
        hosts: The hosts that the operator named, each with a port where it is not the scheme's own.

    Raises:
        WebhookRefused: It may not.
    """
    if not hosts:
        raise WebhookRefused("webhooks are off: BETAVAE_WEBHOOK_HOSTS names no host")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise WebhookRefused("is not a valid address") from None
    if len(url) > MAX_URL_LENGTH or not _URL.fullmatch(url) or "\\" in url or not host:
        raise WebhookRefused(
            f"must be an address of at most {MAX_URL_LENGTH} characters, such as https://lab.example/x"
        )
    if parts.username is not None or parts.fragment:
        raise WebhookRefused("must have no user name, no password and no fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise WebhookRefused("must begin with https://")
    name = f"[{host}]" if ":" in host else host
    named = {name, f"{name}:{_PORTS[parts.scheme]}"} if port in (None, _PORTS[parts.scheme]) else {f"{name}:{port}"}
    if not named & set(hosts):
        raise WebhookRefused(f"{parts.netloc} is not one of the hosts in BETAVAE_WEBHOOK_HOSTS")


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Returns the value of `webhook-signature`: HMAC-SHA256 of id, time and body, in base64.

    Args:
        secret: `whsec_` and the key in base64.
        message_id: The id of the message.
        timestamp: The time of this attempt, in seconds since 1970.
        body: The body.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{binascii.b2a_base64(digest, newline=False).decode()}"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """The end of a job or of a sweep, as its message reports it."""

    kind: str
    """What has ended, as the message's type names it."""
    url: str
    number: int
    """A number of this end, which grows from end to end."""
    ended_at: str | None
    data: dict[str, Any]
    """The message's data, with id, status and request_id among them."""


class OtherNotices(Protocol):
    """A source of notices of things other than jobs, such as sweeps."""

    def notice(self, id: str) -> Notice | None:
        """Returns the notice of an end; None if there is none to send."""

    def end_webhook(self, id: str, number: int | None = None) -> None:
        """Notes that a message needs no further attempt; see JobStore.end_webhook."""


KINDS = {"train": "train_job", "evaluation": "evaluation"}
"""Kinds of jobs that may name an address, and what the type of a message calls them."""


def notice_of(job: Job) -> Notice | None:
    """Returns the notice of a job; None while it is under way, and where it names no address."""
    url = job.request.get("webhook")
    if not url or not job.is_finished:
        return None
    data = {name: getattr(job, name) for name in ("id", "name", "status", "model", "error", "request_id")}
    data["model"] = job.model or job.request.get("model")  # The model that was made, or that was evaluated.
    return Notice(kind=KINDS[job.kind], url=url, number=job.version, ended_at=job.finished_at, data=data)


class Notifier:
    """Sends the messages of one job store. `run_once` sends those that are due; `start` does so in a thread."""

    def __init__(self, store: JobStore, settings: Settings, others: OtherNotices | None = None) -> None:
        """Takes the sources of notices.

        Args:
            store: The jobs.
            settings: The settings, for the hosts and the secret.
            others: The notices of sweeps; None if there are none.
        """
        self._store, self._others = store, others
        self._hosts, self._secret = settings.webhook_host_names, settings.webhook_secret or ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Starts the thread if there may be messages."""
        if self._hosts:
            self._thread.start()

    def stop(self) -> None:
        """Lets the thread end after its present message, without waiting for it."""
        self._stop.set()

    def run_once(self) -> int:
        """Sends the messages that are due.

        Returns:
            The number of messages that were taken.

        Raises:
            JobStoreUnavailable: Redis is away.
        """
        num_taken = 0
        while not self._stop.is_set():
            due = self._store.next_webhook(FIRST_DELAY_SECONDS, DELAY_FACTOR, LONGEST_DELAY_SECONDS)
            if due is None:
                break
            num_taken += self._send(*due)
        return num_taken

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.run_once()
            except JobStoreUnavailable:
                continue
            except Exception:
                log.exception("webhooks failed; trying again")

    def _send(self, id: str, attempt: int) -> bool:
        """Sends the message of a job or of a sweep. Returns whether it was taken."""
        notice, end = self._notice(id)
        if notice is None:  # It is gone, or was requeued, and gets another message when it ends.
            end(None)
            return False
        REQUEST_ID.set(notice.data["request_id"] or "")
        what = f"{'sweep' if notice.kind == 'sweep' else 'job'} {id}"
        status, trouble = self._post(notice)
        if trouble and status != GONE and attempt < MAX_ATTEMPTS:
            log.warning("%s: webhook: attempt %d: %s", what, attempt, trouble)
            return False
        if trouble:
            log.error("%s: webhook: given up after attempt %d: %s", what, attempt, trouble)
        else:
            log.info("%s: webhook: taken", what)
        end(notice.number)
        return not trouble

    def _notice(self, id: str) -> tuple[Notice | None, Callable[[int | None], None]]:
        """Returns the notice of a job or a sweep, and a function to call when its message needs no further attempt."""
        try:
            return notice_of(self._store.get(id)), partial(self._store.end_webhook, id)
        except UnknownJob:
            if self._others is None:
                return None, partial(self._store.end_webhook, id)
            return self._others.notice(id), partial(self._others.end_webhook, id)

    def _post(self, notice: Notice) -> tuple[int | None, str]:
        """Sends a message. Returns the status of the answer, and what went wrong, or an empty text."""
        url = notice.url
        try:
            check_webhook(url, self._hosts)
            status = _post(url, _address(url, self._hosts), self._headers_and_body(notice))
        except WebhookRefused as error:
            return None, str(error)
        except (httpx.HTTPError, OSError) as error:
            return None, f"{type(error).__name__}: {error}"
        return status, "" if 200 <= status < 300 else f"the receiver answered {status}"

    def _headers_and_body(self, notice: Notice) -> tuple[dict[str, str], bytes]:
        data = notice.data
        message = {"type": f"{notice.kind}.{data['status']}", "timestamp": notice.ended_at, "data": data}
        body = json.dumps(message, ensure_ascii=False).encode()
        message_id, timestamp = f"msg_{data['id']}_{notice.number}", int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "betavae",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret, message_id, timestamp, body),
        }
        return headers, body


def _post(url: str, address: str, message: tuple[dict[str, str], bytes]) -> int:
    """Sends a message to one address of a host, without proxies and without following redirects. Returns the status."""
    headers, body = message
    target = httpx.URL(url)
    host = {"Host": target.netloc.decode()}

    async def exchange() -> int:
        # httpx bounds each read of a socket and no exchange, which a receiver can draw out byte by byte.
        with anyio.fail_after(SEND_SECONDS):
            async with (
                httpx.AsyncClient(timeout=SEND_SECONDS, trust_env=False, follow_redirects=False) as client,
                client.stream(
                    "POST",
                    target.copy_with(host=address),
                    headers=headers | host,
                    content=body,
                    extensions={"sni_hostname": target.host},  # The certificate is that of the name.
                ) as response,
            ):
                return response.status_code  # The answer's body is not read.

    return anyio.run(exchange)


def _address(url: str, hosts: Collection[str]) -> str:
    """Returns an address of the URL's host to which a message may go; it is not looked up again afterwards.

    An address of a private network has to be named itself, so that a name cannot be pointed there.

    Raises:
        WebhookRefused: It has none.
        OSError: The name cannot be resolved.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    names = {name.strip("[]") for entry in hosts for name in (entry, entry.rpartition(":")[0])}
    for *_, (found, *_rest) in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        ip = ipaddress.ip_address(str(found).partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        is_own = ip.is_loopback and host == "localhost"
        if (ip.is_global and not ip.is_multicast) or is_own or str(ip) in names:
            return str(ip)
    raise WebhookRefused(f"{host} has a private address, which BETAVAE_WEBHOOK_HOSTS does not name")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
