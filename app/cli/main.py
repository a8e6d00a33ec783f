"""The command line: `betavae serve`, `train`, `sweep`, `traverse`, `evaluate`, `datasets`, `models`, `jobs` and others.

Only serve starts a server. The other commands call the same functions as the workers. Those functions load torch, so
that --help is quick.
"""

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from app.cli import backup as cli_backup
from app.cli import datasets as cli_datasets
from app.cli import disk as cli_disk
from app.cli import evaluate as cli_evaluate
from app.cli import jobs as cli_jobs
from app.cli import models as cli_models
from app.cli import sweep as cli_sweep
from app.cli import tokens as cli_tokens
from app.cli import train as cli_train
from app.cli import traverse as cli_traverse
from app.cli.output import CliError, fail
from app.serve import launcher
from app.serve.broker import BrokerError
from models.config import ConfigError
from training.data.images import ImageError
from training.data.packs import PackError
from training.data.sources import DatasetError
from worker.stores.ids import AmbiguousName
from worker.stores.settings import SettingsError, load_settings
from worker.stores.storage import NotStored

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("train")(cli_train.train)
app.command("sweep")(cli_sweep.sweep)
app.command("traverse")(cli_traverse.traverse)
app.command("evaluate")(cli_evaluate.evaluate)
app.command("disk")(cli_disk.disk)
app.command("backup")(cli_backup.backup)
app.command("restore")(cli_backup.restore)
app.add_typer(cli_jobs.app, name="jobs")
app.add_typer(cli_datasets.app, name="datasets")
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_tokens.app, name="tokens")

USAGE_ERRORS = (ConfigError, SettingsError)
USER_ERRORS = (
    CliError,
    AmbiguousName,
    launcher.LaunchError,
    BrokerError,
    DatasetError,
    ImageError,
    PackError,
    NotStored,
    OSError,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"betavae {metadata.version('betavae')}")
        raise typer.Exit


@app.callback()
def betavae(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train β-VAEs on image sets and render latent traversals."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (BETAVAE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one (BETAVAE_PORT).")] = None,
    home: Annotated[str | None, typer.Option(help="Data folder (BETAVAE_HOME).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N (BETAVAE_DEVICE).")] = None,
) -> None:
    """Run the whole service: HTTP API, both workers and the embedded broker; Ctrl-C stops it."""
    given = {"HOST": host, "PORT": port, "HOME": home, "DEVICE": device}
    os.environ.update({f"BETAVAE_{name}": str(value) for name, value in given.items() if value is not None})
    launcher.serve(load_settings())


def _text(error: Exception) -> str:
    """Returns the text of an error, without the "[Errno 2]" of Python's own errors about files."""
    if isinstance(error, OSError) and error.strerror:
        reason = f"{error.strerror[0].lower()}{error.strerror[1:]}"
        return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"
    return str(error)


def _is_out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:  # Without torch, only Python itself can run out of memory.
        return isinstance(error, MemoryError)
    from training.device import is_out_of_memory

    return is_out_of_memory(error)


def main() -> None:
    """Runs a command. An error that a user can cause prints one line on standard error and exits with 1 or 2."""
    # By default, threads of torch that wait for each other spin; on a busy machine, a step then took 40 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="betavae", standalone_mode=False)
    except typer.TyperException as error:  # a wrong option or argument
        fail(f"{error.format_message()} (see betavae --help)")
        sys.exit(error.exit_code)
    except USAGE_ERRORS as error:
        fail(str(error))
        sys.exit(2)
    except USER_ERRORS as error:
        fail(_text(error))
        sys.exit(1)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        fail(f"too little memory: {error}"[:300])
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
