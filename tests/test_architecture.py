"""The four folders and their sub-packages import in one direction, and some modules never import torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from training.objectives.registry import OBJECTIVES

ROOT = Path(__file__).parent.parent
FOLDERS = ("app", "worker", "training", "models")
ROOMS: tuple[tuple[str, ...], ...] = (
    ("app.main", "app.cli", "app.remote", "app.api", "app.serve", "app", "app.observability"),
    ("worker", "worker.sweeps", "worker.rendering", "worker.jobs", "worker.stores"),
    ("training.metrics", "training", "training.objectives", "training.data"),
    ("models", "models.convolutions"),
)
"""The rooms of each folder; one imports itself and those to its right. A folder's own name stands for the modules at
its root that are in no other room."""
SAME_ROOM = {"app.server": "app.main", "app.__main__": "app.main", "app.client": "app.remote"}
"""Modules at the root that belong to the room of another."""
STRANGERS = (
    ("app.api", "app.serve"),
    ("app.main", "app.serve"),
    ("app.remote", "app.api"),
    ("app.remote", "app.serve"),
)
"""Rooms of which the first never imports the second, which stands to its right."""
MOST_MODULES = 20
MOST_LINES = 80
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime")
TORCH_FREE = (
    "models.archives",
    "models.config",
    "models.info",
    "training.config",
    "training.data.images",
    "training.data.packs",
    "training.data.datasets",
    "worker.stores.logs",
    "worker.stores.parsing",
    "worker.stores.parsing_pool",
    "worker.stores.settings",
    "worker.stores.storage",
    "worker.jobs.store",
    "worker.jobs.queue",
    "worker.stores.models",
    "worker.sweeps.store",
    "worker.rendering.request",
)


def _sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, *, at_import_time: bool) -> Iterator[str]:
    """Returns the modules that a file imports; with at_import_time, without those inside functions or TYPE_CHECKING."""

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


def _reached(module: str) -> dict[str, str]:
    """Returns all modules that importing `module` imports, each with the module that imports it."""
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


def _rooms() -> dict[str, tuple[int, int]]:
    """Returns the place of every room: the index of its folder, and its index within that."""
    return {room: (i, k) for i, rooms in enumerate(ROOMS) for k, room in enumerate(rooms)}


def _room(module: str) -> str:
    """Returns the room of a module: its sub-package, or the folder itself."""
    module = SAME_ROOM.get(module, module)
    known = _rooms()
    parts = module.split(".")
    return next(room for n in (2, 1) if (room := ".".join(parts[:n])) in known)


def _own_imports(path: Path) -> set[str]:
    """Returns the modules of ours that a file imports, inside functions and for type checkers too."""
    names = {name for name in _imports(path, at_import_time=False) if name.split(".")[0] in FOLDERS}
    return {name for name in names if (file := _file(name)) and file.name != "__init__.py"}


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_each_room_imports_only_itself_and_those_to_its_right(path: Path) -> None:
    places, own = _rooms(), _room(_name(path))
    folder, place = places[own]
    imported = {name: _room(name) for name in _own_imports(path)}
    assert [name for name, room in imported.items() if places[room][0] == folder and places[room][1] < place] == []
    assert [name for name, room in imported.items() if (own, room) in STRANGERS] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checkers count too."""
    arrows = {_name(path): _own_imports(path) for path in _sources()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_every_folder_with_modules_is_a_room() -> None:
    folders = {".".join(path.relative_to(ROOT).parts[:-1][:2]) for path in _sources()}
    assert folders == {room for room in _rooms() if not (ROOT / f"{room.replace('.', '/')}.py").is_file()}


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


PUBLIC = "training.metrics"
"""The package that offers a name of its own, `infomec`, for scripts."""


@pytest.mark.parametrize("path", [p for p in _sources() if p.name == "__init__.py"], ids=_name)
def test_init_files_are_empty(path: Path) -> None:
    assert _name(path) == PUBLIC or path.read_text() == ""


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_nothing_is_pickled(path: Path) -> None:
    names = set(_imports(path, at_import_time=False))
    assert not names & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in _sources()}), ids=lambda f: str(f.relative_to(ROOT)))
def test_no_folder_has_more_than_20_modules(folder: Path) -> None:
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_no_function_is_longer_than_80_lines(path: Path) -> None:
    """The body counts, without the docstring."""
    too_long = []
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(function) is not None and len(function.body) > 1
            first = function.body[1 if documented else 0]
            if (function.end_lineno or 0) - first.lineno >= MOST_LINES:
                too_long.append(function.name)
    assert too_long == []


def _compared_texts(node: ast.AST) -> Iterator[str]:
    """Returns the texts that a node compares something with, by ==, !=, a match or `in`."""
    if isinstance(node, ast.MatchValue):
        sides: list[ast.expr] = [node.value]
    elif isinstance(node, ast.Compare):
        # `"beta" in metrics` looks up a key and compares no name.
        sides = [*node.comparators] if isinstance(node.ops[0], ast.In | ast.NotIn) else [node.left, *node.comparators]
    else:
        return
    for side in sides:
        for part in side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_only_objectives_and_presets_name_an_objective(path: Path) -> None:
    """A new objective is one file and one line in the registry."""
    if path.parent == ROOT / "training" / "objectives" or path == ROOT / "training" / "presets.py":
        return
    compared = {text for node in ast.walk(ast.parse(path.read_text())) for text in _compared_texts(node)}
    assert compared & OBJECTIVES.keys() == set()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('name == "beta"', ["beta"]),
        ('"beta" != name', ["beta"]),
        ('name in ("beta", "capacity")', ["beta", "capacity"]),
        ('"beta" in metrics', []),
    ],
)
def test_comparisons_with_a_text_are_found(expression: str, names: list[str]) -> None:
    assert [text for node in ast.walk(ast.parse(expression)) for text in _compared_texts(node)] == names
