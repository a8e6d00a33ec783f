"""Lets `python -m app` be the command `betavae`."""

from app.cli.main import main

main()
