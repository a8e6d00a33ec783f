"""Makes the environment in .venv, installs the project, and starts the service; needs only Python.

python3 run.py [options of `betavae serve`]   start everything
python3 run.py test [options of pytest]       run all tests
python3 run.py check                          run ruff, mypy and the checks of the web page
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

try:
    import fcntl
except ImportError:  # Windows has no such module.
    sys.exit("run.py: the service runs on Linux and macOS; on Windows, run it in WSL, or with Docker (see README.md)")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PAGE_TOOLS = ROOT / "tests" / "app" / "web"
"""Folder of the package.json with the tools that check the web page's code."""
STAMP = VENV / "betavae-installed.json"
EXTRAS = {
    "serve": ("worker", "embedded"),
    "test": ("worker", "embedded", "dev"),
    "check": ("worker", "embedded", "dev"),
}
WHOLE_SUITE = ("-n", "auto", "--maxprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
"""Options of pytest for all tests. Files run beside each other in their order, which ends with small ones."""
OLDEST = (3, 11)
FINDS_CONVOLUTIONS = "from importlib.util import find_spec as f; assert f('models.convolutions._compiled')"
"""Python code that fails if the optional library of models/convolutions was not built."""


class SetupError(RuntimeError):
    """The environment cannot be made; the message is a sentence for the user."""


def say(text: str) -> None:
    """Prints one line to standard error."""
    print(f"run.py: {text}", file=sys.stderr, flush=True)


def works(*command: str | Path) -> bool:
    """Returns whether a command runs and succeeds; its output is discarded."""
    try:
        return (
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
        )
    except OSError:
        return False


def wanted_state(extras: tuple[str, ...]) -> dict[str, object]:
    """Returns the stamp of an installation that is up to date.

    Args:
        extras: Optional dependencies of pyproject.toml.
    """
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", *sorted(ROOT.glob("models/**/*.[ch]"))):
        digest.update(path.read_bytes())
    return {"sources": digest.hexdigest(), "extras": sorted(extras)}


def is_fresh(extras: tuple[str, ...]) -> bool:
    """Returns whether the environment has these extras, and matches the current pyproject.toml and C sources."""
    try:
        found = json.loads(STAMP.read_text("utf-8"))
        return bool(
            found["sources"] == wanted_state(())["sources"]
            and set(extras) <= set(found["extras"])
            and os.access(PYTHON, os.X_OK)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_environment() -> None:
    """Makes .venv unless a working one exists.

    Raises:
        SetupError: The environment cannot be made; no incomplete folder remains.
    """
    version = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    if works(PYTHON, "-c", version):
        return
    if VENV.exists():
        say(f"{VENV} does not work and is made anew")
        shutil.rmtree(VENV)
    # Debian's python3 lacks ensurepip, so that `-m venv` fails and leaves a broken folder.
    has_ensurepip = works(sys.executable, "-c", "import ensurepip, venv")
    if not has_ensurepip and not works(sys.executable, "-m", "pip", "--version"):
        raise SetupError(
            "This Python has neither ensurepip nor pip; install them (Debian and Ubuntu: apt install python3-venv) "
            "and run this again."
        )
    without_pip = [] if has_ensurepip else ["--without-pip"]
    try:
        subprocess.run([sys.executable, "-m", "venv", *without_pip, str(VENV)], check=True)
    except BaseException as error:
        shutil.rmtree(VENV, ignore_errors=True)
        if isinstance(error, subprocess.CalledProcessError):
            raise SetupError(f"{VENV} could not be made (see above).") from error
        raise


def pip_command() -> list[str]:
    """Returns the pip that installs into .venv: its own, or that of the Python that runs this file.

    Raises:
        SetupError: Neither has pip.
    """
    if works(PYTHON, "-m", "pip", "--version") or works(PYTHON, "-m", "ensurepip"):
        return [str(PYTHON), "-m", "pip"]
    if works(sys.executable, "-m", "pip", "--version"):
        return [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    raise SetupError(
        f"There is no pip for {VENV}; remove that folder, install pip or python3-venv, and run this again."
    )


def install(extras: tuple[str, ...]) -> None:
    """Installs the project and its requirements into .venv, and writes the stamp after a successful installation.

    Raises:
        SetupError: The installation failed.
    """
    is_first = not works(PYTHON, "-c", "import torch")
    if not is_first:
        say("bringing the packages in .venv up to date")
    elif sys.platform == "linux":
        say(
            "installing into .venv: downloads about 3 GB (PyTorch with CUDA; docs/operations.md says how to get the "
            "CPU build, about 0.4 GB) and takes about 6 GB on disk"
        )
    else:
        say("installing into .venv: downloads about 0.4 GB and takes about 1.5 GB on disk")
    command = [*pip_command(), "install", "--disable-pip-version-check", "-e", f"{ROOT}[{','.join(extras)}]"]
    # The first installation takes minutes, so a log shows pip's lines too.
    quiet = [] if is_first or sys.stderr.isatty() else ["-q"]
    done = subprocess.run([*command, *quiet], check=False, env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
    if done.returncode != 0:
        raise SetupError("The installation failed (see above). Run this again; pip keeps its downloads.")
    STAMP.write_text(json.dumps(wanted_state(extras)), "utf-8")
    if not works(PYTHON, "-c", FINDS_CONVOLUTIONS):
        say(
            "the compiled convolutions could not be built, so training is slower: install a C compiler (Debian and "
            f"Ubuntu: apt install gcc libc6-dev), remove {STAMP} and run this again"
        )


def prepare(extras: tuple[str, ...]) -> None:
    """Updates .venv to the requirements of pyproject.toml; a lock allows one process at a time."""
    if is_fresh(extras):
        return
    with open(ROOT / "pyproject.toml", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_fresh(extras):
            make_environment()
            install(extras)


def check() -> int:
    """Runs ruff, mypy and the checks of the web page, continues after failures, and returns the exit code."""
    commands = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    failed = [
        " ".join(command)
        for command in commands
        if subprocess.run([str(PYTHON), "-m", *command], cwd=ROOT, check=False).returncode != 0
    ]
    for command_text in [*failed, *(page_failed := check_page())]:
        say(f"{command_text} failed")
    return 1 if failed or page_failed else 0


def check_page() -> list[str]:
    """Runs the checks of the web page's code, which need npm, and returns the commands that failed.

    Users need neither Node nor npm; without it, or without its packages, a line says that nothing was checked.
    """
    npm = shutil.which("npm")
    if npm is None:
        say("npm is not installed, so the types and the format of app/web are not checked")
        return []
    quiet = ("install", "--no-audit", "--no-fund", "--loglevel=error")
    if subprocess.run([npm, *quiet], cwd=PAGE_TOOLS, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        say("npm cannot install its packages, so the types and the format of app/web are not checked")
        return []
    scripts = ("types", "format")
    return [
        f"npm run {script} (in {PAGE_TOOLS.relative_to(ROOT)})"
        for script in scripts
        if subprocess.run([npm, "run", "--silent", script], cwd=PAGE_TOOLS, check=False).returncode != 0
    ]


def become(*arguments: str) -> NoReturn:
    """Replaces this process by the environment's Python, so that signals reach it directly."""
    os.execv(PYTHON, [str(PYTHON), *arguments])


def main(arguments: list[str]) -> int:
    """Prepares the environment, runs the requested command, and returns the exit code.

    Args:
        arguments: The command line without the program's name.
    """
    if sys.version_info < OLDEST:
        say(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {sys.version.split()[0]}.")
        return 2
    mode = arguments[0] if arguments and arguments[0] in EXTRAS else "serve"
    rest = arguments[1:] if arguments and arguments[0] == mode else arguments
    if not is_fresh(EXTRAS[mode]) and rest and rest[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        prepare(EXTRAS[mode])
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped; run this again to continue")
        return 130
    if mode == "check":
        return check()
    if mode == "test":
        os.chdir(ROOT)
        # On shared cores, small networks are many times slower with several threads than with one.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        become("-m", "pytest", *(rest or WHOLE_SUITE))
    become("-P", "-m", "app", "serve", *rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
