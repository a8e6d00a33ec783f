"""Sends mutated files of every format to a real service for a while.

python tests/mutate_files.py --seconds 600 --seed 1 [--keep FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

from corpus.attack import attack
from corpus.running import running_service


def main() -> None:
    """Starts a service on a temporary folder, attacks it, and prints the outcomes by format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long files are sent")
    parser.add_argument("--seed", type=int, default=1, help="seed of the mutations")
    parser.add_argument("--keep", type=Path, help="folder for a file that breaks something")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="betavae-") as folder, running_service(Path(folder)) as running:
        outcomes = attack(running, asked.seed, seconds=asked.seconds, keep=asked.keep)
        peaks = running.report()
    for name, count in sorted(outcomes.items()):
        print(f"{count:6} {name}")
    print(f"{outcomes.total():6} files, none of which broke anything")
    print(f"peaks of memory: {peaks}")


if __name__ == "__main__":
    main()
