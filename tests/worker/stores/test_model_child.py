"""Foreign model files are read in a child that may crash, hang or grow, while the parent goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import add_model

from models.bundles import ImportRefused, write_bundle
from models.info import read_info
from worker import model_transfer
from worker.stores.model_child import ModelConverter
from worker.stores.models import ModelRegistry
from worker.stores.storage import LocalStorage


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small model."""
    folder = tmp_path_factory.mktemp("bundle")
    add_model(LocalStorage(folder), "tiny")
    write_bundle(folder / "models" / "tiny", folder / "tiny.zip")
    return folder / "tiny.zip"


@pytest.fixture(scope="module")
def converter() -> Iterator[ModelConverter]:
    started = ModelConverter()
    yield started
    started.close()


def test_one_child_converts_bytes_and_paths_as_this_process_does(
    converter: ModelConverter, bundle: Path, tmp_path: Path
) -> None:
    converter.convert(tmp_path / "a", bundle.read_bytes(), name="A copy")
    first = converter.child_pid
    converter.convert(tmp_path / "b", bundle)
    assert converter.child_pid == first != os.getpid()
    assert [read_info(tmp_path / name).name for name in "ab"] == ["A copy", "tiny"]
    original = bundle.parent / "models" / "tiny" / "model.safetensors"
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == original.read_bytes()


def test_a_refusal_of_the_child_is_one_of_the_parent(converter: ModelConverter, bundle: Path, tmp_path: Path) -> None:
    for data, spec, code in (
        (b"no model", None, "unknown_format"),
        (bundle.read_bytes()[:-900], None, "not_a_bundle"),
        ((5).to_bytes(8, "little") + b"{}   ", b"[]", "invalid_description"),
    ):
        with pytest.raises(ImportRefused) as refused:
            converter.convert(tmp_path / "none", data, spec=spec)
        assert refused.value.code == code
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        converter.convert(tmp_path / "file" / "folder", bundle)


def test_a_child_that_is_killed_or_too_slow_ends_only_its_own_file(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = ModelConverter(seconds=0.001)
    with pytest.raises(ImportRefused, match=r"more than 0\.001 s") as refused:
        hasty.convert(tmp_path / "a", bundle)
    assert refused.value.code == "parser_died"
    assert hasty.child_pid is None
    monkeypatch.setattr(model_transfer, "converter", hasty)
    with pytest.raises(ImportRefused):  # An import goes through the child.
        model_transfer.take_in(ModelRegistry(LocalStorage(tmp_path)), bundle)


def test_a_child_that_died_while_it_was_idle_is_replaced(
    converter: ModelConverter, bundle: Path, tmp_path: Path
) -> None:
    converter.convert(tmp_path / "a", bundle)
    dead = converter.child_pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
    converter.convert(tmp_path / "b", bundle)
    assert converter.child_pid != dead


def test_an_idle_child_ends(converter: ModelConverter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converter, "_idle_seconds", 0.0)
    with pytest.raises(ImportRefused):
        converter.convert(tmp_path / "a", b"no model")
    assert converter._ending is not None
    converter._ending.join()
    assert converter.child_pid is None
