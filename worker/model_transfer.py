"""Taking models in and giving them out, where torch is at hand: in a render worker, or the command line."""

import io
import tempfile
import threading
from pathlib import Path

from models.bundles import write_zip
from models.card import model_card
from models.converters import import_model
from models.files import load_model
from models.info import write_info
from models.onnx_export import export_onnx_folder
from worker.rendering.labels import label_model
from worker.stores.models import ModelRegistry

_registering = threading.Lock()
"""Two imports of one name at once must not take the same id."""


def take_in(
    registry: ModelRegistry,
    file: Path | bytes,
    *,
    spec: bytes | None = None,
    name: str = "",
    format: str = "auto",
    id: str | None = None,
) -> str:
    """Imports somebody's model file (see models.converters.import_model), names its dimensions where they have no
    names yet, and registers it.

    Returns: its id.   Raises: ImportRefused, ConfigError, ShippedModel; ValueError for a bad id.
    """
    with tempfile.TemporaryDirectory(prefix="import-") as temporary:
        folder = Path(temporary)
        info = import_model(folder, file, spec=spec, name=name, format=format)
        if not info.dimension_effects:
            write_info(folder, label_model(load_model(folder).network, info))
        with _registering:
            return registry.add(folder, id)


def onnx_zip(registry: ModelRegistry, model_id: str) -> bytes:
    """encoder.onnx, decoder.onnx and the model card in one zip. Raises UnknownModel; ValueError where it is damaged."""
    info, folder = registry.get(model_id)
    buffer = io.BytesIO()
    write_zip({**export_onnx_folder(folder), "README.md": model_card(info).encode()}, buffer)
    return buffer.getvalue()
