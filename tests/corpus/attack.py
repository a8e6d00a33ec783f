"""Mutated files against the running service: no answer is a bug, no process dies, and nothing is left behind."""

import random
import time
from collections import Counter
from pathlib import Path

import httpx
from api_support import assert_problem

from corpus.cases import packed, remove
from corpus.mutation import Seed, mutate, seeds
from corpus.running import Running

EXPECTED_5XX = ("workers_busy", "storage_full")
"""Codes of answers that a busy or full service gives; another 5xx is a bug of the service."""


def attack(running: Running, seed: int, *, num: int | None = None, seconds: float | None = None,
           keep: Path | None = None) -> Counter[str]:  # fmt: skip
    """Sends mutated files, each format in turn.

    Args:
        running: The service.
        seed: Seed of the mutations; the same seed gives the same files.
        num: Number of files; None: as many as fit into `seconds`.
        seconds: Time after which no more are sent.
        keep: Folder in which a file that breaks something is kept.

    Returns:
        The number of answers by format and outcome.

    Raises:
        AssertionError: A file broke something; the text names its format and its number.
    """
    chance, kinds, outcomes = random.Random(seed), seeds(), Counter[str]()
    before, deadline, sent = running.files(), time.monotonic() + (seconds or 0), 0
    while sent < num if num is not None else time.monotonic() < deadline:
        kind = kinds[sent % len(kinds)]
        data = mutate(kind.data, chance, is_text=kind.is_text)
        try:
            outcomes[f"{kind.format}: {_post(running, kind, data)}"] += 1
            running.assert_no_new_files(before)
            running.assert_alive()
        except Exception as error:
            if keep is not None:
                (keep / f"{seed}-{sent}").write_bytes(data)
            raise AssertionError(f"seed {seed}, file {sent}, {kind.format}: {error!r}") from error
        sent += 1
    return outcomes


def _post(running: Running, kind: Seed, data: bytes) -> str:
    """Sends a mutated file and returns the outcome: the code of a refusal, or what was made of the file."""
    with running.watched():
        answer = kind.send(data)(running.client)
        outcome = _outcome(answer)
        if kind.packs and answer.status_code == 201:
            # Without a number of channels, the API has the file looked into as well.
            outcome = str(packed(running.client, answer.json()["links"]["self"], {"image_size": 32}))
            assert outcome not in ("request_failed", "internal_error", "worker_lost"), outcome
        remove(running.client, answer)
    return outcome


def _outcome(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return "accepted"
    code = str(answer.json()["code"])
    assert_problem(answer, answer.status_code, code)
    assert answer.status_code < 500 or code in EXPECTED_5XX, answer.text
    return code
