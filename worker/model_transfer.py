"""Import and export of models in a process with torch: a render worker or the command line."""

import io
import tempfile
import threading
from pathlib import Path

from models.bundles import write_zip
from models.files import load_model
from models.info import read_info, validate_name, write_info
from models.onnx_export import export_onnx_folder
from worker.rendering.labels import label_model
from worker.stores.model_child import ModelConverter
from worker.stores.models import ModelRegistry, card_of

converter = ModelConverter()
"""Reads foreign files in a child."""
_registering = threading.Lock()
"""The lock is held while an import takes its id, so that two imports of one name get different ids."""


def take_in(
    registry: ModelRegistry,
    file: Path | bytes,
    *,
    spec: bytes | None = None,
    name: str = "",
    format: str = "auto",
    id: str | None = None,
) -> str:
    """Imports a model file, names its dimensions if they have no names yet, and registers it.

    Args:
        registry: The registry.
        file: The file's path or content.
        spec: The description beside it, if the format has one.
        name: Name of the model; empty takes the file's own.
        format: Format of the file, or auto; see models.converters.import_model.
        id: Id of the model; None makes one of its name.

    Returns:
        The id of the model.

    Raises:
        ImportRefused: The file is no model that can be imported.
        ConfigError: The name is not allowed.
        ShippedModel: A model that ships has this id.
        ValueError: The id is not allowed.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as temporary:
        folder = Path(temporary)
        converter.convert(folder, file, spec=spec, name=validate_name(name) if name else "", format=format)
        info = read_info(folder)
        if not info.dimension_effects:
            write_info(folder, label_model(load_model(folder).network, info))
        with _registering:
            return registry.add(folder, id)


def onnx_zip(registry: ModelRegistry, model_id: str) -> bytes:
    """Returns a zip of encoder.onnx, decoder.onnx and the model card.

    Raises:
        UnknownModel: There is no such model.
        ValueError: The model's files are damaged.
    """
    info, folder = registry.get(model_id)
    buffer = io.BytesIO()
    write_zip({**export_onnx_folder(folder), "README.md": card_of(info).encode()}, buffer)
    return buffer.getvalue()
