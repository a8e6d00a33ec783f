"""The benchmarks start after the README's own installation, which has none of the packages for development."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")


def test_they_start_without_the_packages_for_development() -> None:
    assert {"service_speed", "training_speed"} <= set(MODULES)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    missing = [re.split(r"[>=\[;]", requirement)[0].replace("-", "_") for requirement in extras["dev"]]
    assert {"hypothesis", "playwright"} <= set(missing)
    imports = "; ".join(f"import benchmarks.{module}" for module in MODULES)
    script = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); {imports}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
