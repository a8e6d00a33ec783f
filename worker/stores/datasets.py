"""Data sets by id: built-in ones, registered folders and files, uploads; and their packs; free of torch.

`datasets/<id>/source.json` says where the pictures come from, `datasets/<id>/upload.<suffix>` is what was uploaded,
`datasets/<id>/channels.json` whether an upload has colours, `datasets/<id>/<pack>/` is the set packed for one image
size, number of channels and crop.
"""

import logging
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.info import Preprocessing, validate_name
from training.data.datasets import (
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    OnProgress,
    Source,
    ZipFile,
    fingerprint,
    pack_dataset,
)
from training.data.images import DEFAULT_MAX_PIXELS
from training.data.packs import Pack, PackError, PackInfo, open_pack
from training.data.picture_files import check_folder
from worker.stores.parsing_pool import num_channels_in_child
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage, NotStored, Storage

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_UPLOAD_SUFFIXES = (".zip", ".npz", ".npy", ".h5", ".hdf5")

BUILT_IN_NAMES = {
    "dsprites": "dSprites-compatible shapes",
    "dsprites_color": "dSprites-compatible shapes in random colours",
    "chairs": "Rendered chairs",
}

_Packs = list[PackInfo]
Packer = Callable[..., object]
"""Packs as training.data.datasets.pack_dataset does, with its arguments."""

log = logging.getLogger(__name__)


class UnknownDataset(KeyError):
    """There is no data set with this id."""

    def __str__(self) -> str:
        return f"There is no data set with the id {self.args[0]}."


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A data set in the registry. `status`: unpacked, ready (there is a pack), or failed (`error` says why)."""

    id: str
    name: str
    kind: str
    """builtin, folder, file or upload."""
    source: str
    """The built-in set's name, the path on the worker's machine, or the uploaded file's name."""
    status: str = "unpacked"
    num_images: int | None = None
    num_rejected: int | None = None
    packs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    layout: str = "auto"
    split: str = "official"
    created_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {f: getattr(self, f) for f in self.__dataclass_fields__}


def pack_name(preprocessing: Preprocessing) -> str:
    """The folder name of a pack: what decides its pixels."""
    parts = [f"{preprocessing.image_size}px", "grey" if preprocessing.num_channels == 1 else "rgb"]
    if preprocessing.crop_size is not None:
        parts.append(f"crop{preprocessing.crop_size}")
    if preprocessing.crop == "none":
        parts.append("whole")
    return "-".join(parts)


def pack_job_id(dataset_id: str, preprocessing: Preprocessing) -> str:
    """The id of the one job that packs a data set in one way."""
    return f"pack-{dataset_id}-{pack_name(preprocessing)}"


class DatasetRegistry:
    """Data sets by id."""

    def __init__(
        self, storage: Storage, *, cache_folder: Path | None = None, max_image_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        """Args: cache_folder, where packs are made when the storage is remote; max_image_pixels, limit of packing."""
        self.storage = storage
        self.limits = Limits(max_pixels=max_image_pixels)
        self.cache_folder = cache_folder or Path("betavae-data/cache").absolute()

    def list(self) -> list[DatasetRecord]:
        """All data sets: built-in ones first, then the others by name."""
        others = [name for name in self.storage.list("datasets") if self._has_source(name)]
        records = [self._read(dataset_id) for dataset_id in others]
        return [self.get(i) for i in BUILT_IN_NAMES] + sorted((r for r in records if r), key=lambda r: r.name)

    def get(self, dataset_id: str) -> DatasetRecord:
        """The data set's entry. Raises UnknownDataset."""
        if not _ID.fullmatch(dataset_id):
            raise UnknownDataset(dataset_id)
        record = self._read(dataset_id)
        if record is None:
            raise UnknownDataset(dataset_id)
        return record

    def add_path(self, name: str, path: Path, *, layout: str = "auto", split: str = "official") -> DatasetRecord:
        """Registers a folder of pictures, or an archive, where it lies.

        Raises: ConfigError for a bad name; DatasetError when there is no such folder or no picture in it.
        """
        name, path = validate_name(name), path.expanduser().absolute()
        if path.is_dir():
            ImageFolder(path, layout, split)
            check_folder(path, self.limits)
            return self._add(name, "folder", str(path), layout, split)
        _check_archive(path)
        return self._add(name, "file", str(path), layout, split)

    def add_upload(
        self, name: str, path: Path, *, filename: str, layout: str = "auto", split: str = "official"
    ) -> DatasetRecord:
        """Moves an uploaded archive (a local file) into the storage.

        Args: filename, as the client called it; its suffix decides how it is read.
        Raises: ConfigError for a bad name, DatasetError for a suffix that is not known.
        """
        name, suffix = validate_name(name), Path(filename).suffix.lower()
        if suffix not in _UPLOAD_SUFFIXES:
            raise DatasetError("not_an_archive", f"{filename}: expected one of {', '.join(_UPLOAD_SUFFIXES)}")
        record_id = self._free_id(name)
        self.storage.move_file(f"datasets/{record_id}/upload{suffix}", path)
        return self._add(name, "upload", f"upload{suffix}", layout, split, record_id)

    def delete(self, dataset_id: str) -> None:
        """Removes the packs, and what was uploaded; a registered folder's pictures stay where they are."""
        self.get(dataset_id)
        self.storage.delete(f"datasets/{dataset_id}")

    def source(self, dataset_id: str) -> Source:
        """Where the pictures come from. Raises UnknownDataset, and DatasetError when they are gone."""
        record = self.get(dataset_id)
        if record.kind == "builtin":
            return BuiltIn(record.source)
        if record.kind == "folder":
            return ImageFolder(Path(record.source), record.layout, record.split)
        path = Path(record.source)
        if record.kind == "upload":
            path = self.storage.local_file(f"datasets/{dataset_id}/{record.source}")
        if path.suffix.lower() == ".zip":
            return ZipFile(path, record.layout, record.split)
        return ArrayFile(path)

    def num_channels(self, dataset_id: str) -> int:
        """3 where its pictures have colours, otherwise 1; for pictures that cannot be read, as its packs are, or 1.

        Raises: UnknownDataset; DatasetError needs_h5py, where it takes a worker to look, and parser_died, where the
        file makes its reader crash or takes too long.
        """
        kept = f"datasets/{dataset_id}/channels.json"
        is_upload = self.get(dataset_id).kind == "upload"
        if is_upload:  # It cannot change, and may be far away.
            with suppress(NotStored, ValueError, KeyError, TypeError):
                return int(self.storage.read_json(kept)["num_channels"])
        try:
            found = num_channels_in_child(self.source(dataset_id), self.limits)
        except DatasetError as error:
            if error.code in ("needs_h5py", "parser_died"):
                raise
            log.warning("data set %s: %s", dataset_id, error.message)
            return max((pack.num_channels for pack in self.packs(dataset_id)), default=1)
        if is_upload:
            self.storage.write_json(kept, {"num_channels": found})
        return found

    def open(self, dataset_id: str, preprocessing: Preprocessing, *, check_source: bool = False) -> Pack | None:
        """The pack of a data set, on this machine; None when it has to be made (again). Raises UnknownDataset.

        Args: check_source, whether a pack counts only when what was packed is still as it was then, a registered
        folder or file or a built-in renderer; uploads cannot change, and of what is gone the pack is all there is.
        """
        record = self.get(dataset_id)
        try:
            folder = self.storage.local_folder(self._pack_prefix(dataset_id, preprocessing))
            expected = self._fingerprint(record) if check_source else None
            return open_pack(folder, preprocessing=preprocessing, source_fingerprint=expected)
        except NotStored:
            return None
        except PackError as error:
            log.warning("data set %s: %s", dataset_id, error)
            return None

    def pack(
        self,
        dataset_id: str,
        preprocessing: Preprocessing,
        *,
        on_progress: OnProgress | None = None,
        packer: Packer = pack_dataset,
    ) -> Pack:
        """Packs a data set, replacing an older pack of the same kind.

        Args: packer, what does the work: by default this process.
        Raises: UnknownDataset, DatasetError (which is noted in the data set's entry).
        """
        record = self.get(dataset_id)
        prefix = self._pack_prefix(dataset_id, preprocessing)
        try:
            folder = self.storage.path(prefix) if isinstance(self.storage, LocalStorage) else self.cache_folder / prefix
            packer(
                self.source(dataset_id),
                folder,
                preprocessing,
                name=record.name,
                on_progress=on_progress,
                limits=self.limits,
            )
        except DatasetError as error:
            self.storage.write_json(self._failure_key(dataset_id), {"code": error.code, "message": error.message})
            raise
        if not isinstance(self.storage, LocalStorage):
            self.storage.put_folder(prefix, folder)
        self.storage.delete(self._failure_key(dataset_id))
        return open_pack(folder, preprocessing=preprocessing)

    def packs(self, dataset_id: str) -> _Packs:
        """The descriptions of the packs that are there, the newest first."""
        found = []
        for name in self.storage.list(f"datasets/{dataset_id}"):
            try:
                found.append(PackInfo.from_json(self.storage.read_json(f"datasets/{dataset_id}/{name}/dataset.json")))
            except (NotStored, ValueError):
                continue
        return sorted(found, key=lambda pack: pack.created_at, reverse=True)

    def rejected(self, dataset_id: str, preprocessing: Preprocessing | None = None) -> bytes:
        """rejected.jsonl of a pack (of the newest, without `preprocessing`); empty where there is none."""
        for chosen in [preprocessing] if preprocessing else [pack.preprocessing for pack in self.packs(dataset_id)]:
            with suppress(NotStored):
                return self.storage.read_bytes(f"{self._pack_prefix(dataset_id, chosen)}/rejected.jsonl")
        return b""

    def has_changed(self, dataset_id: str, pack: Pack) -> bool:
        """Whether what was packed has changed since; not where it is gone. Raises UnknownDataset."""
        return self._fingerprint(self.get(dataset_id)) not in (None, pack.info.source_fingerprint)

    def _fingerprint(self, record: DatasetRecord) -> str | None:
        """What the source looks like now; None where it cannot change, or is not there."""
        if record.kind == "upload":
            return None
        try:
            return fingerprint(self.source(record.id), self.limits)
        except DatasetError as error:
            log.warning("data set %s: %s", record.id, error.message)
            return None

    def _add(
        self, name: str, kind: str, source: str, layout: str, split: str, dataset_id: str | None = None
    ) -> DatasetRecord:
        dataset_id = dataset_id or self._free_id(name)
        record = {
            "format_version": 1,
            "id": dataset_id,
            "name": name,
            "kind": kind,
            "source": source,
            "layout": layout,
            "split": split,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.storage.write_json(f"datasets/{dataset_id}/source.json", record)
        log.info("data set %s: registered (%s %s)", dataset_id, kind, source)
        return self.get(dataset_id)

    def _read(self, dataset_id: str) -> DatasetRecord | None:
        description: dict[str, Any] = {"id": dataset_id, "kind": "builtin", "source": dataset_id}
        if dataset_id in BUILT_IN_NAMES:
            description["name"] = BUILT_IN_NAMES[dataset_id]
        else:
            try:
                description = self.storage.read_json(f"datasets/{dataset_id}/source.json")
                del description["format_version"]
            except NotStored:
                return None
            except (ValueError, KeyError, TypeError) as error:
                log.warning("data set %s: source.json cannot be read: %s", dataset_id, error)
                return None
        packs = self.packs(dataset_id)
        if packs:
            description |= {"num_images": packs[0].num_images, "num_rejected": packs[0].num_rejected}
            description["packs"] = [_summary(pack) for pack in packs]
        failure = self._failure(dataset_id)
        status = "ready" if packs else "failed" if failure else "unpacked"
        return DatasetRecord(**description, status=status, error=failure)

    def _failure(self, dataset_id: str) -> dict[str, str] | None:
        try:
            failure: dict[str, str] = self.storage.read_json(self._failure_key(dataset_id))
            return failure
        except (NotStored, ValueError):
            return None

    def _failure_key(self, dataset_id: str) -> str:
        return f"datasets/{dataset_id}/failure.json"

    def _pack_prefix(self, dataset_id: str, preprocessing: Preprocessing) -> str:
        return f"datasets/{dataset_id}/{pack_name(preprocessing)}"

    def _has_source(self, dataset_id: str) -> bool:
        return dataset_id not in BUILT_IN_NAMES and self.storage.exists(f"datasets/{dataset_id}/source.json")

    def _free_id(self, name: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "set"
        number = 1
        while (dataset_id := base if number == 1 else f"{base}-{number}") in BUILT_IN_NAMES or self.storage.exists(
            f"datasets/{dataset_id}"
        ):
            number += 1
        return dataset_id


def open_dataset_registry(settings: Settings, storage: Storage) -> DatasetRegistry:
    """The data sets of a storage, packed within the settings' limits."""
    return DatasetRegistry(storage, cache_folder=settings.cache_folder, max_image_pixels=settings.max_image_pixels)


def _summary(pack: PackInfo) -> dict[str, Any]:
    return {
        "image_size": pack.image_size,
        "num_channels": pack.num_channels,
        "crop": pack.preprocessing.crop,
        "crop_size": pack.preprocessing.crop_size,
        "num_images": pack.num_images,
        "num_rejected": pack.num_rejected,
        "factor_names": list(pack.factor_names),
        "factor_sizes": list(pack.factor_sizes),
        "split_sizes": pack.split_sizes,
        "digest": pack.digest,
        "created_at": pack.created_at,
    }


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise DatasetError("not_found", f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix not in _UPLOAD_SUFFIXES:
        raise DatasetError("not_an_archive", f"{path.name}: expected a folder, or one of {', '.join(_UPLOAD_SUFFIXES)}")
    if suffix == ".zip" and not zipfile.is_zipfile(path):
        raise DatasetError("not_a_zip", f"{path.name}: the file is no zip, or is damaged")
