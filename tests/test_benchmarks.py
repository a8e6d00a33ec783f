"""The benchmarks start after the README's own installation, and measure what the code does today."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from datasets_support import packed
from packs_support import write_pack

from app.api.sweeps.requests import LONGEST_NAME
from benchmarks import objectives, shapes3d, training_speed
from models.info import Preprocessing, validate_name
from training.config import TrainingConfig
from training.data.datasets import ArrayFile
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
    assert objectives.objectives(1000, ["controlled", "factorvae, γ 40, D 3"]).keys() == {
        "controlled (the default)",
        "factorvae, γ 40, D 3 × 256",
    }


def test_each_choice_of_rows_has_a_sweep_of_its_own() -> None:
    short = objectives.name_of("avatars", 3000, ["categorical"])
    long = [
        objectives.name_of("avatars", 3000, ["controlled (the default)", f"factorvae, γ 40, D {n}"]) for n in (3, 6)
    ]
    assert short == "objectives avatars 3000 categorical"
    assert len({short, *long}) == 3
    assert [len(name) for name in long] == [LONGEST_NAME] * 2
    assert [validate_name(name) for name in long] == long


def test_the_drawn_set_is_recognised_as_3d_shapes(tmp_path: Path) -> None:
    shapes3d.write(tmp_path / "rooms.h5", 40)
    pack = packed(ArrayFile(tmp_path / "rooms.h5"), tmp_path, Preprocessing(image_size=64, num_channels=3))
    assert (pack.info.kind, pack.info.factor_sizes) == ("shapes3d", shapes3d.SIZES)
    assert pack.factors is not None
    np.testing.assert_array_equal(pack.images, shapes3d.draw(pack.factors))


def test_each_factor_of_the_drawn_set_changes_its_own_pixels() -> None:
    """Below are a corner of the floor, one of the wall, and the object's middle."""
    here = np.array([1, 3, 6, 7, 0, 7])
    others = np.stack([here + np.eye(6, dtype=int)[k] * (-1 if k in (3, 5) else 1) for k in range(6)])
    base, *changed = shapes3d.draw(np.vstack([here, others])).astype(int)
    differs = [(picture != base).any(-1) for picture in changed]
    places = [(60, 32), (5, 32), (34, 32)]
    assert [[bool(found[place]) for place in places] for found in differs[:3]] == np.eye(3, dtype=bool).tolist()
    assert not any(found[2:6, 28:36].any() for found in differs[3:5])
    object_area = [(picture[..., 2] > picture[..., 1]).sum() for picture in (base, changed[3])]
    assert object_area[0] > object_area[1] > 0
    assert all(found.any() for found in differs)
