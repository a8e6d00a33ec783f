"""run.py: its requirements, when it installs, and what a failure leaves behind."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run_py(tmp_path: Path) -> ModuleType:
    """The module run.py, which works on an empty folder with our pyproject.toml."""
    shutil.copy(ROOT / "run.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    spec = importlib.util.spec_from_file_location("run_py", tmp_path / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_imports_only_the_standard_library() -> None:
    tree = ast.parse((ROOT / "run.py").read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_an_old_python_can_parse_it_and_report_the_needed_version() -> None:
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 8))


def test_an_old_python_is_refused_in_one_line(
    run_py: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    assert run_py.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_ensurepip_and_pip_it_names_the_package_and_leaves_no_environment(
    run_py: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_py, "works", lambda *command: False)
    assert run_py.main([]) == 1
    assert "python3-venv" in capsys.readouterr().err
    assert not run_py.VENV.exists()


def test_without_ensurepip_the_pip_of_the_running_python_installs(
    run_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_py.works
    monkeypatch.setattr(run_py, "works", lambda *c: not any("ensurepip" in str(part) for part in c) and real(*c))
    run_py.make_environment()
    assert real(run_py.PYTHON, "-c", "")
    assert run_py.pip_command() == [sys.executable, "-m", "pip", "--python", str(run_py.PYTHON)]


def test_a_failed_venv_is_removed(run_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(command: list[str], **_: object) -> None:
        run_py.VENV.mkdir()
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(run_py, "works", lambda *command: run_py.PYTHON not in command)
    monkeypatch.setattr(run_py.subprocess, "run", break_off)
    with pytest.raises(run_py.SetupError):
        run_py.make_environment()
    assert not run_py.VENV.exists()


def test_a_broken_environment_is_made_anew(run_py: ModuleType) -> None:
    (run_py.VENV / "bin").mkdir(parents=True)
    (run_py.VENV / "bin" / "python").symlink_to("/nonexistent/python3")
    run_py.make_environment()
    assert run_py.works(run_py.PYTHON, "-c", "")


def _installed(run_py: ModuleType, extras: tuple[str, ...]) -> None:
    run_py.PYTHON.parent.mkdir(parents=True, exist_ok=True)
    if not run_py.PYTHON.exists():
        run_py.PYTHON.symlink_to(sys.executable)
    run_py.STAMP.write_text(json.dumps(run_py.wanted_state(extras)))


def test_a_fresh_stamp_means_no_installation(run_py: ModuleType) -> None:
    assert not run_py.is_fresh(run_py.EXTRAS["serve"])
    _installed(run_py, run_py.EXTRAS["serve"])
    assert run_py.is_fresh(run_py.EXTRAS["serve"])
    assert not run_py.is_fresh(run_py.EXTRAS["test"])
    _installed(run_py, run_py.EXTRAS["test"])
    assert run_py.is_fresh(run_py.EXTRAS["serve"])


def test_a_change_of_pyproject_means_installation(run_py: ModuleType) -> None:
    _installed(run_py, run_py.EXTRAS["test"])
    with (run_py.ROOT / "pyproject.toml").open("a") as file:
        file.write("\n")
    assert not run_py.is_fresh(run_py.EXTRAS["serve"])


@pytest.mark.parametrize("name", ["convolutions.c", "kernels.h"])
def test_a_change_of_a_compiled_file_means_installation(name: str, run_py: ModuleType) -> None:
    source = run_py.ROOT / "models" / "convolutions" / name
    source.parent.mkdir(parents=True)
    source.write_text("int one(void) { return 1; }")
    _installed(run_py, run_py.EXTRAS["test"])
    assert run_py.is_fresh(run_py.EXTRAS["serve"])
    source.write_text("int one(void) { return 2; }")
    assert not run_py.is_fresh(run_py.EXTRAS["serve"])


@pytest.mark.parametrize("built", [False, True])
def test_one_line_after_the_installation_says_that_the_convolutions_are_missing(
    built: bool, run_py: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = run_py.ROOT / "models" / "convolutions"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py"):
        path.touch()
    if built:
        (package / "_compiled.so").touch()
    _installed(run_py, ())
    monkeypatch.chdir(run_py.ROOT)
    monkeypatch.setattr(run_py, "pip_command", lambda: [sys.executable, "-c", ""])
    run_py.install(run_py.EXTRAS["serve"])
    printed = [line for line in capsys.readouterr().err.splitlines() if "convolutions" in line]
    assert ["install a C compiler" in line for line in printed] == ([] if built else [True])
    assert run_py.is_fresh(run_py.EXTRAS["serve"])


def test_a_failed_installation_leaves_no_stamp(
    run_py: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_py, "make_environment", lambda: run_py.VENV.mkdir())
    monkeypatch.setattr(run_py, "pip_command", lambda: [sys.executable, "-c", "raise SystemExit(1)"])
    assert run_py.main([]) == 1
    assert "GB" in capsys.readouterr().err.splitlines()[0]
    assert not run_py.STAMP.exists()


class Became(Exception):
    """The process would have been replaced by another program."""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], ["-P", "-m", "app", "serve"]),
        (["--port", "1"], ["-P", "-m", "app", "serve", "--port", "1"]),
        (["serve", "--port", "1"], ["-P", "-m", "app", "serve", "--port", "1"]),
        (["test", "-k", "x"], ["-m", "pytest", "-k", "x"]),
    ],
)
def test_the_arguments_reach_the_command(
    run_py: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: list[str]
) -> None:
    def become(path: Path, its_arguments: list[str]) -> None:
        raise Became(*its_arguments[1:])

    _installed(run_py, run_py.EXTRAS["test"])
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.chdir(run_py.ROOT)
    with pytest.raises(Became) as became:
        run_py.main(arguments)
    assert list(became.value.args) == command


def test_a_system_without_fcntl_is_told_what_to_use() -> None:
    """Windows has no fcntl."""
    program = "import runpy, sys; sys.modules['fcntl'] = None; runpy.run_path('run.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Linux and macOS" in line and "WSL" in line and "Docker" in line


def test_a_machine_without_npm_says_so_in_one_line(
    run_py: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert run_py.check_page() == []
    assert capsys.readouterr().err.splitlines() == [
        "run.py: npm is not installed, so the types and the format of app/web are not checked"
    ]
