"""The benchmarks start after the README's own installation, and measure what the code does today."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packs_support import write_pack

from benchmarks import objectives, training_speed
from models.info import Preprocessing
from training.config import TrainingConfig
from training.data.packs import open_pack
from training.presets import resolve

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


@pytest.mark.parametrize("objective", ["capacity", TrainingConfig().objective.name])
def test_training_speed_measures_our_loop(objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (64, 64, 64, 3)).astype(np.uint8)
    preprocessing = Preprocessing(image_size=64, num_channels=3)
    write_pack(tmp_path, [pictures], name="noise", kind="array", source="test", preprocessing=preprocessing)
    monkeypatch.setattr(training_speed, "START", 1)
    monkeypatch.setattr(training_speed, "BATCH", 8)
    assert training_speed.our_rate(open_pack(tmp_path), 2, objective) > 0


def test_the_table_of_objectives_has_settings_that_can_be_trained() -> None:
    rows = objectives.objectives(1000)
    configs = [resolve(None, {**objectives.SHARED, "num_steps": 1000, **row}) for row in rows.values()]
    assert {config.num_steps for config in configs} == {1000}
    assert len({config.objective.name for config in configs}) == len(rows) - 1  # FactorVAE is there twice.
