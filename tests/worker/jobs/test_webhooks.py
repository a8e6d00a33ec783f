"""Signed messages about jobs that have ended: what is sent, where it may go, and that none is lost."""

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from worker.jobs.store import JobStore
from worker.jobs.webhooks import MAX_ATTEMPTS, Notifier, WebhookRefused, _address, check_webhook
from worker.stores.settings import Settings
from worker.sweeps.notices import SweepNotices
from worker.sweeps.records import Member, Sweep
from worker.sweeps.store import SweepStore

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """An HTTP server that keeps what it gets and answers with the next status; 200 after the last."""

    port: int
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """An address on the server."""
        return f"http://127.0.0.1:{self.port}/hook?x=1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(kept.statuses.pop(0) if kept.statuses else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    kept = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def notifier(job_store: JobStore, receiver: Receiver, tmp_path: Path) -> Notifier:
    settings = Settings(home=tmp_path, webhook_secret=SECRET, webhook_hosts=f"127.0.0.1:{receiver.port}")
    return Notifier(job_store, settings)


def _ended(store: JobStore, url: str, end: Callable[[Any], Any] = lambda claim: claim.succeed({}, model="m")) -> str:
    job_id = store.create("train", {"webhook": url}, name="Faces").id
    claim = store.claim(job_id, "worker")
    assert claim is not None
    end(claim)
    return job_id


def _make_due(store: JobStore, job_id: str) -> None:
    assert store.redis.zadd("betavae:webhooks", {job_id: 1}, xx=True, ch=True) == 1


@pytest.mark.parametrize(
    ("end", "status", "model"),
    [
        (lambda claim: claim.succeed({}, model="m"), "succeeded", "m"),
        (lambda claim: claim.fail("diverged", "the loss became nan"), "failed", None),
    ],
)
def test_the_message_of_a_job_is_signed_and_sent_once(
    job_store: JobStore, notifier: Notifier, receiver: Receiver, end: Any, status: str, model: str | None
) -> None:
    job_id = _ended(job_store, receiver.url, end)
    assert (notifier.run_once(), notifier.run_once()) == (1, 0)
    ((path, headers, body),) = receiver.got
    message = Webhook(SECRET).verify(body, headers)
    assert message == json.loads(body)
    assert (path, headers["content-type"]) == ("/hook?x=1", "application/json")
    assert message["type"] == f"train_job.{status}"
    assert message["timestamp"] == job_store.get(job_id).finished_at
    assert {name: message["data"][name] for name in ("id", "name", "status", "model")} == {
        "id": job_id, "name": "Faces", "status": status, "model": model,
    }  # fmt: skip
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"Faces", b"faces"), headers)


def test_jobs_without_a_webhook_and_jobs_that_run_send_nothing(
    job_store: JobStore, notifier: Notifier, receiver: Receiver
) -> None:
    _ended(job_store, "")
    job_store.claim(job_store.create("train", {"webhook": receiver.url}).id, "worker")
    assert notifier.run_once() == 0
    assert receiver.got == []


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_a_refused_message_is_sent_again_with_the_same_id(
    job_store: JobStore, notifier: Notifier, receiver: Receiver, status: int
) -> None:
    job_id = _ended(job_store, receiver.url)
    receiver.statuses = [status]
    assert notifier.run_once() == 0
    assert notifier.run_once() == 0  # It is not due yet.
    assert len(receiver.got) == 1
    _make_due(job_store, job_id)
    assert notifier.run_once() == 1
    first, second = receiver.got
    assert first[0] == second[0] == "/hook?x=1"  # No redirect was followed.
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert job_store.redis.zcard("betavae:webhooks") == 0


def test_attempts_come_later_and_later_and_end(job_store: JobStore, notifier: Notifier, receiver: Receiver) -> None:
    job_id = _ended(job_store, receiver.url)
    receiver.statuses = [500] * MAX_ATTEMPTS
    delays = []
    for _ in range(MAX_ATTEMPTS - 1):
        seconds, _microseconds = job_store.redis.time()
        notifier.run_once()
        delays.append(job_store.redis.zscore("betavae:webhooks", job_id) / 1000 - seconds)
        _make_due(job_store, job_id)
    expected = [min(10 * 3**attempt, 6 * 3600) for attempt in range(MAX_ATTEMPTS - 1)]
    assert all(0 <= delay - right < 30 for delay, right in zip(delays, expected, strict=True))
    notifier.run_once()
    assert (len(receiver.got), job_store.redis.zcard("betavae:webhooks")) == (MAX_ATTEMPTS, 0)


def test_a_receiver_that_is_gone_gets_no_more(job_store: JobStore, notifier: Notifier, receiver: Receiver) -> None:
    _ended(job_store, receiver.url)
    receiver.statuses = [410]
    notifier.run_once()
    assert job_store.redis.zcard("betavae:webhooks") == 0


def test_a_receiver_that_draws_out_its_answer_is_left(
    job_store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends a byte of a header now and then, so that no single wait is long."""
    monkeypatch.setattr("worker.jobs.webhooks.SEND_SECONDS", 0.5)
    done = threading.Event()

    def draw_out() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not done.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=draw_out)
        thread.start()
        job_id = _ended(job_store, f"http://{host}/hook")
        try:
            settings = Settings(home=tmp_path, webhook_secret=SECRET, webhook_hosts=host)
            assert Notifier(job_store, settings).run_once() == 0
        finally:
            done.set()
            thread.join()
    _make_due(job_store, job_id)  # It is tried again.


def test_a_sender_that_dies_and_a_wiped_redis_lose_no_message(
    job_store: JobStore, notifier: Notifier, receiver: Receiver
) -> None:
    job_id = _ended(job_store, receiver.url)
    assert job_store.next_webhook(10, 3, 100) == (job_id, 1)  # A worker took it and died.
    _make_due(job_store, job_id)
    job_store.redis.flushall()
    job_store.rebuild()
    assert notifier.run_once() == 1
    job_store.redis.flushall()
    job_store.rebuild()
    assert notifier.run_once() == 0
    assert len(receiver.got) == 1


def test_a_job_that_ends_again_sends_another_message(
    job_store: JobStore, notifier: Notifier, receiver: Receiver
) -> None:
    job_id = _ended(job_store, receiver.url, lambda claim: claim.fail("x", "y"))
    notifier.run_once()
    job_store.retry(job_id)
    job_store.cancel(job_id)
    assert notifier.run_once() == 1
    first, second = receiver.got
    assert first[1]["webhook-id"] != second[1]["webhook-id"]
    assert json.loads(second[2])["type"] == "train_job.cancelled"


def test_a_deleted_job_and_a_host_that_is_listed_no_more_get_nothing(
    job_store: JobStore, notifier: Notifier, receiver: Receiver, tmp_path: Path
) -> None:
    job_store.delete(_ended(job_store, receiver.url))
    _ended(job_store, receiver.url)
    others = Notifier(job_store, Settings(home=tmp_path, webhook_secret=SECRET, webhook_hosts="lab.example"))
    assert others.run_once() == 0
    assert receiver.got == []


@pytest.mark.parametrize(
    ("end", "status"),
    [(lambda claim: claim.succeed({"scores": {}}), "succeeded"), (lambda claim: claim.fail("x", "y"), "failed")],
)
def test_an_evaluation_tells_of_the_model_that_it_evaluated(
    job_store: JobStore, notifier: Notifier, receiver: Receiver, end: Any, status: str
) -> None:
    claim = job_store.claim(job_store.create("evaluation", {"webhook": receiver.url, "model": "m"}).id, "worker")
    assert claim is not None
    end(claim)
    assert notifier.run_once() == 1
    ((_, headers, body),) = receiver.got
    message = Webhook(SECRET).verify(body, headers)
    assert message["type"] == f"evaluation.{status}"
    assert (message["data"]["id"], message["data"]["model"]) == (claim.id, "m")


@pytest.fixture
def sweeps(job_store: JobStore) -> SweepStore:
    return SweepStore(job_store)


@pytest.fixture
def of_sweeps(sweeps: SweepStore, receiver: Receiver, tmp_path: Path) -> Notifier:
    settings = Settings(home=tmp_path, webhook_secret=SECRET, webhook_hosts=f"127.0.0.1:{receiver.port}")
    return Notifier(sweeps.jobs, settings, SweepNotices(sweeps))


def _sweep(sweeps: SweepStore, **request: Any) -> Sweep:
    member = Member(name="a", settings={"seed": 0}, request={"config": {}})
    return sweeps.create({"dataset": "squares", "max_running": 1, **request}, [member], name="Faces")


def _end(sweeps: SweepStore, sweep: Sweep, end: Callable[[Any], Any]) -> None:
    """Ends the one member that is under way, or the comparison of a sweep."""
    comparison = sweeps.views([sweep.head])[0].comparison
    claim = sweeps.jobs.claim(comparison.id if comparison else sweep.job_ids[0], "worker")
    assert claim is not None
    end(claim)
    sweeps.advance(sweep.id)


def test_a_sweep_tells_of_its_end_and_of_the_chosen_model(
    sweeps: SweepStore, of_sweeps: Notifier, receiver: Receiver
) -> None:
    sweep, other = _sweep(sweeps, webhook=receiver.url), _sweep(sweeps)
    for one in (other, sweep):
        _end(sweeps, one, lambda claim: claim.succeed({}, model="m"))
        assert of_sweeps.run_once() == 0  # The models are compared yet.
        _end(sweeps, one, lambda claim: claim.succeed({"winner": {"model": "m", "reason": "its loss"}}))
    assert (of_sweeps.run_once(), of_sweeps.run_once()) == (1, 0)
    ((_, headers, body),) = receiver.got
    message = Webhook(SECRET).verify(body, headers)
    assert message["type"] == "sweep.succeeded"
    assert message["data"] == {
        "id": sweep.id, "name": "Faces", "status": "succeeded", "model": "m", "error": None, "request_id": None,
    }  # fmt: skip
    assert message["timestamp"][:4].isdigit()


def test_the_message_of_a_sweep_is_sent_until_it_is_taken_and_once_for_each_end(
    sweeps: SweepStore, of_sweeps: Notifier, receiver: Receiver
) -> None:
    sweep = _sweep(sweeps, webhook=receiver.url)
    _end(sweeps, sweep, lambda claim: claim.fail("diverged", "the loss became nan"))
    receiver.statuses = [500]
    assert of_sweeps.run_once() == 0
    sweeps.jobs.redis.flushall()  # The list of what is due is made anew.
    sweeps.advance_all()
    assert of_sweeps.run_once() == 1
    sweeps.jobs.redis.flushall()
    sweeps.advance_all()
    assert of_sweeps.run_once() == 0
    sweeps.retry(sweep.id)
    sweeps.cancel(sweep.id)
    assert of_sweeps.run_once() == 1
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert ids == [f"msg_{sweep.id}_1", f"msg_{sweep.id}_1", f"msg_{sweep.id}_2"]
    assert [json.loads(body)["type"] for *_, body in receiver.got[1:]] == ["sweep.failed", "sweep.cancelled"]


def test_the_message_of_a_later_end_of_a_sweep_does_not_wait_for_the_delay_of_the_first(
    sweeps: SweepStore, of_sweeps: Notifier, receiver: Receiver
) -> None:
    sweep = _sweep(sweeps, webhook=receiver.url)
    sweeps.cancel(sweep.id)
    receiver.statuses = [500]
    assert of_sweeps.run_once() == 0
    sweeps.advance(sweep.id)
    assert of_sweeps.run_once() == 0  # The delay stays while it is the same end.
    sweeps.retry(sweep.id)
    sweeps.cancel(sweep.id)
    assert of_sweeps.run_once() == 1
    assert [headers["webhook-id"] for _, headers, _ in receiver.got] == [f"msg_{sweep.id}_1", f"msg_{sweep.id}_2"]


def test_the_end_of_a_comparison_that_was_retried_is_sent(
    sweeps: SweepStore, of_sweeps: Notifier, receiver: Receiver
) -> None:
    sweep = _sweep(sweeps, webhook=receiver.url)
    _end(sweeps, sweep, lambda claim: claim.succeed({}, model="m"))
    _end(sweeps, sweep, lambda claim: claim.fail("internal_error", "it was killed"))
    assert of_sweeps.run_once() == 1
    sweeps.retry(sweep.id)
    _end(sweeps, sweep, lambda claim: claim.succeed({"winner": {"model": "m", "reason": "its loss"}}))
    assert of_sweeps.run_once() == 1
    assert json.loads(receiver.got[1][2])["data"]["error"] is None


def test_a_sweep_that_was_retried_or_deleted_before_sends_nothing(
    sweeps: SweepStore, of_sweeps: Notifier, receiver: Receiver
) -> None:
    retried, deleted = _sweep(sweeps, webhook=receiver.url), _sweep(sweeps, webhook=receiver.url)
    for one in (retried, deleted):
        sweeps.cancel(one.id)
    sweeps.retry(retried.id)
    sweeps.delete(deleted.id)
    assert of_sweeps.run_once() == 0
    assert (receiver.got, sweeps.jobs.redis.zcard("betavae:webhooks")) == ([], 0)
    sweeps.cancel(retried.id)
    assert of_sweeps.run_once() == 1


HOSTS = ("lab.example", "ci.example:8443", "127.0.0.1", "[::1]:9000")


@pytest.mark.parametrize(
    "url",
    [
        "https://lab.example/x?y=1",
        "https://lab.example:443/",
        "https://LAB.example",
        "https://ci.example:8443/a",
        "http://127.0.0.1/x",
        "http://[::1]:9000/x",
    ],
)
def test_an_address_of_a_listed_host_is_taken(url: str) -> None:
    check_webhook(url, HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "http://lab.example/x",
        "https://lab.example:444/",
        "https://ci.example/",
        "https://evil.example/",
        "https://lab.example.evil.example/",
        "https://lab.example@evil.example/",
        "https://me:secret@lab.example/",
        "https://evil.example\\@lab.example/",
        "https://lab.example/#part",
        "https://lab.example:99999/",
        "https://[::1/",
        "http://169.254.169.254/latest",
        "ftp://lab.example/",
        "file:///etc/passwd",
        "https://lab.example/a b",
        "https://lab.example/\n",
        "https://lab.example/" + "x" * 2048,
        "lab.example",
        "",
    ],
)
def test_every_other_address_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused):
        check_webhook(url, HOSTS)
    with pytest.raises(WebhookRefused, match="off"):
        check_webhook("https://lab.example/", ())


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.5", "fd00::1", "0.0.0.0", "224.0.0.1"]
)
def test_a_name_that_resolves_to_a_private_address_is_refused_unless_that_is_listed(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The name server's answer is the one part that is made up."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 443))])
    with pytest.raises(WebhookRefused, match="private"):
        _address("https://lab.example/", ("lab.example", "10.0.0.6"))
    listed = address.removeprefix("::ffff:")
    entry = f"[{listed}]" if ":" in listed else listed
    assert _address("https://lab.example/", ("lab.example", entry)) == listed


def test_a_public_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(0, 0, 0, "", ("10.0.0.5", 443)), (0, 0, 0, "", ("93.184.215.14", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    assert _address("https://lab.example/", ("lab.example",)) == "93.184.215.14"
