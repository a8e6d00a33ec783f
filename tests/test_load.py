"""The verdict of the load benchmark, and the memory of a process and its children."""

import subprocess
import sys

import pytest

from benchmarks.load import API_BYTES, Results, memory_below, report


def _results(idle: float = 1.0, training: float = 2.0) -> Results:
    results = Results()
    results.seconds["new traversal", "idle"] = [0.1] * 95 + [idle] * 5
    results.seconds["new traversal", "training"] = [training]
    return results


def test_the_table_has_the_95th_percentile(capsys: pytest.CaptureFixture[str]) -> None:
    results = _results()
    assert (results.p95("new traversal", "idle"), results.p95("new traversal", "training")) == (0.1, 2.0)
    results.seconds["new traversal", "idle"].append(1.0)
    assert results.p95("new traversal", "idle") == 1.0
    assert report(results, {"API": 0}, {"API": API_BYTES})
    assert "| new traversal | 102 | 1000 ms | 2000 ms |" in capsys.readouterr().out


@pytest.mark.parametrize("reason", ["failure", "memory", "slow"])
def test_it_fails_for_each_of_its_reasons(reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = _results(training=3.0 if reason == "slow" else 0.2)
    if reason == "failure":
        results.failures.append("poll: 500")
    peaks = {"API": API_BYTES + 101 if reason == "memory" else 100}
    assert not report(results, {"API": 100}, peaks)
    assert f"{len(results.failures)} failed" in capsys.readouterr().out


def test_the_memory_of_children_is_found_by_what_they_run() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', 'worker render'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        while not (memory := memory_below(process.pid)) or memory["render worker"] < 2**20:
            assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
    assert list(memory) == ["render worker"]
