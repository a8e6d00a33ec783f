"""Ids are made of names."""

import pytest

from worker.stores.ids import free_id, is_id, slug


@pytest.mark.parametrize(("name", "expected"), [("My Faces!", "my-faces"), ("β", "unnamed"), ("a" * 99, "a" * 60)])
def test_a_name_becomes_an_id(name: str, expected: str) -> None:
    assert slug(name) == expected
    assert is_id(slug(name))


def test_a_taken_id_gets_the_next_number() -> None:
    assert free_id("a", set().__contains__) == "a"
    assert free_id("a", {"a", "a-2", "a-4"}.__contains__) == "a-3"
