"""The corpus: each request gets its answer, in bounded memory, and leaves no file behind."""

import os
import zipfile
from pathlib import Path

import pytest
from api_support import assert_problem
from hostile_files import npy_with_long_header, zip_bomb

from corpus.cases import CASES, Case, check_answer, remove, send_set
from corpus.running import Running
from corpus.sets import MIB

pytestmark = pytest.mark.slow

ALWAYS = ("set zip-bzip2", "set zip-lzma", "set zip-directory", "picture webp-declares", "picture jpeg-scans")
CHOSEN = [
    case
    for number, case in enumerate(CASES)
    if os.environ.get("CORPUS") == "all" or number % 5 == 0 or case.name.startswith(ALWAYS)
]
"""A fifth of the corpus and what once broke the service; CORPUS=all sends everything, which takes some minutes."""


@pytest.mark.parametrize("case", CHOSEN, ids=[case.name for case in CHOSEN])
def test_it_gets_its_answer_in_bounded_memory_and_leaves_nothing(case: Case, running: Running) -> None:
    before = running.files()
    with running.watched():
        check_answer(case, running.client)
    running.assert_no_new_files(before)
    running.assert_alive()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_an_npz_that_unpacks_to_much_is_looked_into_for_colours(method: int, running: Running) -> None:
    data = zip_bomb("images.npy", 400 * MIB, method, npy_with_long_header(400 * MIB))
    with running.watched():
        made = send_set("a.npz", data)(running.client)
        assert made.status_code == 201
        answer = running.client.post(f"{made.json()['links']['self']}/packs", json={})
        assert answer.status_code == 202  # The report of the packing names the reason.
    remove(running.client, made)


def test_a_damaged_hdf5_harms_nobody(running: Running) -> None:
    path = Path(os.environ.get("TEST_DATA", "/nowhere")) / "field-cases" / "damaged.h5"
    if not path.is_file():
        pytest.skip("TEST_DATA has no field-cases/damaged.h5")
    made = send_set("a.h5", path.read_bytes())(running.client)
    assert made.status_code == 201
    answer = running.client.post(f"{made.json()['links']['self']}/packs", json={})
    assert "SIGSEGV" in assert_problem(answer, 422, "invalid_dataset")["detail"]
    running.assert_alive()
    remove(running.client, made)
