"""The description of the API against the real service, by every check of schemathesis.

FUZZ_EXAMPLES=200 FUZZ_SEED=7 is a long run. The file schemathesis.toml has the checks that cannot hold.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from api_support import ROOT
from corpus.running import running_service

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2"))
SEED = os.environ.get("FUZZ_SEED", "1")
SEQUENCES = 4 * EXAMPLES
"""Sequences of requests, which are shorter than all operations one by one."""
PHASES = "examples,coverage,fuzzing,stateful" if EXAMPLES > 2 else "fuzzing,stateful"
"""The examples wait for trainings, and the coverage of every bound of the description takes 1 600 requests."""


@pytest.mark.slow
@pytest.mark.timeout(0 if EXAMPLES > 2 else 600)
def test_the_service_does_what_its_description_says(tmp_path: Path) -> None:
    tests = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tests}"}
    checks = Path(__file__).with_name("schemathesis.toml").read_text("utf-8")
    config = tmp_path / "schemathesis.toml"
    config.write_text(f"{checks}\n[phases.stateful.generation]\nmax-examples = {SEQUENCES}\n", "utf-8")
    with running_service(tmp_path, max_waiting_jobs="20") as running:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("st")),
                "--config-file", str(config),
                "run", f"{running.url}/openapi.json",
                "--phases", PHASES,
                "--max-examples", str(EXAMPLES),
                "--seed", SEED,
                "--no-color",
            ],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )  # fmt: skip
        running.assert_alive()
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
