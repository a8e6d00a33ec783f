"""`betavae backup` and `betavae restore` as a user calls them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from api_support import add_model

from worker.stores.storage import LocalStorage

Betavae = Callable[..., int]


def test_a_data_folder_goes_into_a_file_and_back(
    betavae: Betavae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, file = tmp_path / "from", tmp_path / "b.tar"
    monkeypatch.setenv("BETAVAE_HOME", str(home))
    add_model(LocalStorage(home), "mine")
    assert betavae("backup", file) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert betavae("backup", home / "b.tar") == 1
    assert betavae("restore", file) == 1  # The folder is not empty.
    monkeypatch.setenv("BETAVAE_HOME", str(tmp_path / "to"))
    assert betavae("restore", file) == 0
    capsys.readouterr()
    assert betavae("models") == 0
    assert "mine" in capsys.readouterr().out
    monkeypatch.setenv("BETAVAE_HOME", str(tmp_path / "nowhere"))
    assert betavae("backup", file) == 1
    assert betavae("restore", tmp_path / "missing.tar") == 1
    file.write_bytes(b"no backup" * 100)
    assert betavae("restore", file) == 1
    assert not (tmp_path / "nowhere").exists()
