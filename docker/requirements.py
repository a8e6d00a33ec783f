"""Prints the requirements of pyproject.toml and of the extras named as arguments, one a line.

The images install them in a layer of their own, which a change of the code leaves cached.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
for requirement in project["dependencies"]:
    print(requirement)
for extra in sys.argv[1:]:
    for requirement in project["optional-dependencies"][extra]:
        print(requirement)
