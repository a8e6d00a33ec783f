"""A short share of the seeded mutations; tests/mutate_files.py sends more of them."""

import random

import pytest

from corpus.attack import attack
from corpus.mutation import mutate, seeds, with_checksums
from corpus.pictures import ACCEPTED
from corpus.running import Running

NUM_FILES = 45


@pytest.mark.slow
def test_mutated_files_break_nothing(running: Running) -> None:
    outcomes = attack(running, 1, num=NUM_FILES)
    assert outcomes.total() == NUM_FILES
    assert len({name.split(":")[0] for name in outcomes}) == len(seeds())


def test_the_same_seed_gives_the_same_files() -> None:
    data = ACCEPTED["png-RGB"]()
    first, second = ([mutate(data, chance) for _ in range(50)] for chance in (random.Random(3), random.Random(3)))
    assert first == second
    assert len(set(first)) > 40


def test_checksums_fit_again() -> None:
    data = ACCEPTED["png-RGB"]()
    at = data.index(b"IDAT") + 10
    assert with_checksums(data) == data
    assert with_checksums(with_checksums(data[:at] + b"?" + data[at + 1 :])) != data
