"""The four folders point one way, and the doors to torch stay shut where they must."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("app", "worker", "training", "models")
WORKER_ROOMS = ("", "rendering", "jobs", "stores")
"""The sub-packages of worker, and first the process at its root."""
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime")
TORCH_FREE = (
    "models.config",
    "models.info",
    "training.config",
    "training.data.images",
    "training.data.packs",
    "training.data.datasets",
    "worker.stores.settings",
    "worker.stores.storage",
    "worker.jobs.store",
    "worker.jobs.queue",
    "worker.stores.models",
    "worker.rendering.request",
)


def _sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, *, at_import_time: bool) -> Iterator[str]:
    """Names of the modules that a file imports; with at_import_time, not those inside functions or TYPE_CHECKING."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if at_import_time and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if at_import_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)} uses a relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if _file(f"{module}.{alias.name}"))


def _file(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _is_module(name: str) -> bool:
    """Whether a name is a module, rather than a package or something in a module."""
    path = _file(name)
    return path is not None and path.name != "__init__.py"


def _reached(module: str) -> dict[str, str]:
    """All modules of ours, and foreign ones, that importing `module` imports; each with the module that asks for it."""
    reached: dict[str, str] = {module: ""}
    waiting = [module]
    while waiting:
        path = _file(waiting[-1])
        asker = waiting.pop()
        for name in _imports(path, at_import_time=True) if path else ():
            if name not in reached:
                reached[name] = asker
                if name.split(".")[0] in FOLDERS:
                    waiting.append(name)
    return reached


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_each_folder_imports_only_itself_and_those_to_its_right(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    allowed = FOLDERS[FOLDERS.index(folder) :]
    wrong = [name for name in _imports(path, at_import_time=False) if name.split(".")[0] in FOLDERS]
    assert [name for name in wrong if name.split(".")[0] not in allowed] == []


def _room(module: str) -> int:
    """The position of a worker's module in the order of its rooms."""
    part = module.split(".")[1] if module.count(".") > 1 else ""
    return WORKER_ROOMS.index(part)


@pytest.mark.parametrize("path", [p for p in _sources() if _name(p).startswith("worker.")], ids=_name)
def test_each_room_of_the_worker_imports_only_itself_and_those_to_its_right(path: Path) -> None:
    imported = {
        name for name in _imports(path, at_import_time=False) if name.startswith("worker.") and _is_module(name)
    }
    assert [name for name in imported if _room(name) < _room(_name(path))] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checkers count too."""
    arrows = {
        _name(path): {n for n in _imports(path, at_import_time=False) if n.split(".")[0] in FOLDERS and _is_module(n)}
        for path in _sources()
    }
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("module", [*TORCH_FREE, *(_name(p) for p in _sources() if _name(p).startswith("app"))])
def test_importing_it_imports_no_torch(module: str) -> None:
    assert _file(module), f"{module} is on the list of torch-free modules but does not exist"
    reached = _reached(module)
    heavy = {name: asker for name, asker in reached.items() if name.split(".")[0] in HEAVY}
    assert heavy == {}


@pytest.mark.parametrize("path", sorted((ROOT / "app").rglob("*.py")), ids=_name)
def test_app_never_names_torch_even_inside_functions(path: Path) -> None:
    assert [n for n in _imports(path, at_import_time=False) if n.split(".")[0] in HEAVY] == []


def test_app_main_imports_where_torch_cannot_be_imported() -> None:
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Refuse())
import app.main
app.main.create_app()
assert not [name for name in sys.modules if name.split(".")[0] in {HEAVY!r}]
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [p for p in _sources() if p.name == "__init__.py"], ids=_name)
def test_package_doors_are_empty(path: Path) -> None:
    assert path.read_text() == ""


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_nothing_is_pickled(path: Path) -> None:
    names = set(_imports(path, at_import_time=False))
    assert not names & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
