"""`betavae traverse`: latent traversals on this machine, without a server."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli_output import CliError
from app.cli_settings import with_options_of
from app.cli_stores import open_stores
from training.images import load_image
from worker.traversal_request import FORMATS, TraversalRequest, parse_request, resolve_request

SHEETS = {f".{name}": f"sheet.{name}" for name in FORMATS if name not in ("json", "zip")}
"""Suffix of --output → the file of a traversal that it means."""


@with_options_of(TraversalRequest, "Traversal", leave_out=("format",))
def traverse(
    image: Annotated[
        Path | None, typer.Argument(help="Picture to start from; none with --z or --seed.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Second picture: interpolate to it instead.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model (an id or a folder).", show_default="the default one")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=(
                "Folder for one animation a dimension (z_01.gif …), the sheet of all (sheet.gif, sheet.png) and "
                f"result.json; or one file, the sheet, by its suffix: {', '.join(SHEETS)}."
            ),
        ),
    ] = Path("traversal"),
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.", show_default="BETAVAE_DEVICE")] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Render what each latent dimension of a model does to a picture."""
    request = parse_request(settings)
    stores = open_stores(device)
    info, folder = stores.model(model)
    paths = [path for path in (image, to) if path is not None]
    if to is not None and image is None:
        raise CliError("--to needs a picture to start from")
    pictures = [
        load_image(path.read_bytes(), info.preprocessing, max_pixels=stores.settings.max_image_pixels) for path in paths
    ]
    request = resolve_request(request, info, len(pictures))
    suffix = output.suffix.lower()
    if suffix and suffix not in SHEETS:
        raise CliError(f"{output}: expected a folder, or a file with one of the suffixes {', '.join(SHEETS)}")

    from models.files import load_model
    from worker.traversals import render_traversal

    try:
        rendered = render_traversal(load_model(folder, stores.device()), pictures, request)
    except ValueError as error:
        raise CliError(str(error)) from error
