"""The README says what is so."""

import re
from pathlib import Path

from app.main import create_app
from training.presets import PRESETS
from worker.stores.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def settings_table() -> str:
    """The table of settings as the README must have it."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| `BETAVAE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_every_setting_stands_in_the_readme_as_the_code_has_it() -> None:
    match = re.search(r"<!-- settings: .*?-->\n(.*?)\n?<!-- end of settings -->", README, re.DOTALL)
    assert match is not None
    assert match[1] == settings_table()


def test_every_preset_stands_in_the_readme() -> None:
    for name in PRESETS:
        assert f"`{name}`" in README


def test_every_resource_of_the_api_stands_in_the_readme() -> None:
    for path in create_app().openapi()["paths"]:
        assert path.split("/")[1] in README, path


def test_the_file_tree_names_the_folders_that_exist() -> None:
    for folder in re.findall(r"^(\w+)/ ", README, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
