"""Every problem has words for a visitor."""

import re

import pytest

from app.api.page import WEB
from app.problems import KINDS

SENTENCES = re.findall(
    r'^  (\w+): \[\s*"([^"]+)",\s*"([^"]+)",?\s*\],$', (WEB / "js/problems/sentences.js").read_text(), re.MULTILINE
)
OWN = {"unreachable", "unexpected_answer"}
"""Codes that the page gives to failures without an answer of the service."""


def test_every_code_has_a_sentence_and_a_next_step() -> None:
    assert {code for code, _, _ in SENTENCES} == set(KINDS) | OWN
    assert len(SENTENCES) == len(KINDS) + len(OWN)


@pytest.mark.parametrize(("code", "sentence", "step"), SENTENCES)
def test_texts_are_whole_sentences(code: str, sentence: str, step: str) -> None:
    for text in (sentence, step):
        assert re.fullmatch(r"[A-Z].*[.]", text), code
        assert len(text) <= 110
