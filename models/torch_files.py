"""Opens untrusted torch files without running their code and without unbounded memory.

`torch.load(weights_only=True)` runs no code from the file, but it calls constructors with the file's numbers and builds
one Python object per opcode, so that a 60 MB file can request gigabytes. Therefore the pickle is first parsed without
being executed, and must be one that `torch.save` writes for tensors in dicts.
"""

import io
import pickletools
import warnings
import zipfile
from typing import Any

import torch

from models.archives import open_archive
from models.bundles import MAX_WEIGHTS_BYTES, ImportRefused

_LEGACY_MAGIC = b"\x80\x02\x8a\n\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_MAX_OPCODES = 50_000
"""Maximum number of opcodes in a pickle. A checkpoint with 30 tensors and its optimizer has about 3 000."""
_MAX_ENTRIES = 1_000
_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
    # An optimizer that is saved beside the network has counters of these types.
    "torch DoubleStorage",
    "torch LongStorage",
    "torch IntStorage",
    "torch BoolStorage",
}
_REFUSED_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}


def is_torch_file(data: bytes) -> bool:
    """Returns whether the bytes begin like a file of `torch.save`, in either of its two formats."""
    return data.startswith(_LEGACY_MAGIC) or (data.startswith(b"PK\x03\x04") and b"data.pkl" in data[:4096])


def read_torch_file(data: bytes) -> Any:
    """Returns the object in a file of `torch.save`: dicts, lists, numbers, texts and CPU tensors.

    Raises:
        ImportRefused: The code is too_large, not_a_checkpoint (the file is damaged or of another kind) or
            unsafe_pickle.
    """
    if len(data) > MAX_WEIGHTS_BYTES:
        raise ImportRefused("too_large", f"the file has {len(data)} bytes, the limit is {MAX_WEIGHTS_BYTES}")
    num_stored = None
    if data.startswith(_LEGACY_MAGIC):
        num_stored = _check_legacy(data)
    else:
        data = _check_zip(data)
    return _load(data, num_stored)


def _check_legacy(data: bytes) -> int:
    """Checks the five pickles in front of the tensor data, and returns how many storages the file fills."""
    file = io.BytesIO(data)
    for _ in range(4):
        _check_pickle(file)
    keys = _check_pickle(file)
    return len(set(keys))


def _check_zip(data: bytes) -> bytes:
    """Returns the zip, rewritten from its checked entries, so that no other reader can find different entries in it."""
    checked = io.BytesIO()
    try:
        with (
            open_archive(io.BytesIO(data), max_entries=_MAX_ENTRIES) as archive,
            zipfile.ZipFile(checked, "w") as copy,
        ):
            entries = archive.entries
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names):
                raise ImportRefused("not_a_checkpoint", "the zip contains two files of the same name")
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if len(pickles) != 1 or any(name.endswith("/constants.pkl") for name in names):
                raise ImportRefused("not_a_checkpoint", "the zip is not one that torch.save writes for a state dict")
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                    raise ImportRefused("not_a_checkpoint", "the zip holds compressed files, which torch never writes")
                content = archive.read(entry, len(data))
                if entry.filename == pickles[0]:
                    _check_pickle(io.BytesIO(content))
                copy.writestr(zipfile.ZipInfo(entry.filename), content)
    except ImportRefused:
        raise
    except Exception as error:  # Hostile bytes make zipfile raise a dozen kinds of errors; all mean the same.
        raise ImportRefused("not_a_checkpoint", f"the zip cannot be read: {error}") from error
    return checked.getvalue()


def _check_pickle(file: io.BytesIO) -> list[str]:
    """Parses one pickle to its end without executing it, and returns the texts in it."""
    texts: list[str] = []
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= _MAX_OPCODES:
                raise ImportRefused("unsafe_pickle", f"the pickle has more than {_MAX_OPCODES} opcodes")
            if opcode.name in _REFUSED_OPCODES:
                raise ImportRefused("unsafe_pickle", f"the pickle holds {opcode.name}, which no state dict needs")
            if opcode.name == "GLOBAL" and argument not in _GLOBALS:
                name = str(argument).replace(" ", ".")[:80]
                raise ImportRefused("unsafe_pickle", f"the pickle asks for {name}; only tensors in dicts are read")
            if opcode.name in ("BINUNICODE", "SHORT_BINSTRING"):
                texts.append(str(argument))
    except ImportRefused:
        raise
    except Exception as error:  # Hostile bytes make pickletools raise a dozen kinds of errors as well.
        raise ImportRefused("not_a_checkpoint", f"the pickle cannot be read: {error}") from error
    return texts


def _load(data: bytes, num_stored: int | None) -> Any:
    storages: list[tuple[torch.UntypedStorage, int]] = []
    total = 0

    def keep_on_cpu(storage: Any, location: str) -> Any:
        nonlocal total
        total += storage.nbytes()
        storages.append((storage, storage.nbytes()))
        if total > MAX_WEIGHTS_BYTES:
            raise ImportRefused("too_large", f"the tensors have more than {MAX_WEIGHTS_BYTES} bytes")
        return storage

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(data), map_location=keep_on_cpu, weights_only=True)
    except ImportRefused:
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0][:200]
        raise ImportRefused("not_a_checkpoint", f"torch cannot read the file: {first_line}") from error
    # A storage that the file declares but does not fill would expose earlier contents of our memory.
    # So would a storage that grew because its tensor is larger than the storage.
    has_grown = any(storage.nbytes() != num_bytes for storage, num_bytes in storages)
    if has_grown or (num_stored is not None and num_stored != len(storages)):
        raise ImportRefused("not_a_checkpoint", "the file does not contain the data of all its tensors")
    return loaded
