"""Lets `python -m app` be the command `betavae`."""

from app.cli import main

main()
