"""Data sets by id (built-in ones, registered folders and files, uploads) and their packs.

`datasets/<id>/source.json` describes where the pictures come from. `datasets/<id>/upload.<suffix>` is the uploaded
file, and `datasets/<id>/channels.json` its number of channels. `datasets/<id>/<pack>/` is the data set packed for one
image size, number of channels and crop. This module loads no torch.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.info import Preprocessing, validate_name
from training.data.datasets import (
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    OnProgress,
    Source,
    file_source,
    fingerprint,
    pack_dataset,
)
from training.data.images import DEFAULT_MAX_PIXELS
from training.data.packs import Pack, PackError, PackInfo, open_pack
from training.data.picture_files import check_folder
from training.data.sources import UPLOAD_SUFFIXES, check_upload, suffix_of
from worker.stores.dataset_records import (
    BUILT_IN_NAMES,
    DatasetRecord,
    UnknownDataset,
    failure_key,
    pack_prefix,
    pack_summary,
)
from worker.stores.ids import Descriptions, free_id, id_of_name, is_id, page_of, slug
from worker.stores.parsing_pool import count_images_in_child, num_channels_in_child
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage, NotStored, Storage

Packer = Callable[..., object]
"""A function that packs a data set; it takes the arguments of training.data.datasets.pack_dataset."""

log = logging.getLogger(__name__)


class DatasetRegistry:
    """Data sets by id."""

    def __init__(
        self, storage: Storage, *, cache_folder: Path | None = None, max_image_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        """Takes the storage of the data sets.

        Args:
            storage: Where entries, uploads and packs are.
            cache_folder: Where packs are made if the storage is remote.
            max_image_pixels: Largest picture that is packed, in pixels.
        """
        self.storage = storage
        self._stored = Descriptions(storage, "datasets", "source.json", self._stored_name)
        self.limits = Limits(max_pixels=max_image_pixels)
        self.cache_folder = cache_folder or Path("betavae-data/cache").absolute()

    def records(self) -> list[DatasetRecord]:
        """Returns all data sets: built-in ones first, then the others by name."""
        return self.page(None)

    def page(self, limit: int | None, after: str | None = None) -> list[DatasetRecord]:
        """Returns one page of the data sets, in the order of `records`.

        Args:
            limit: Largest number of data sets; None for all.
            after: Id of the last data set of the page before; None for the first page.

        Raises:
            UnknownDataset: `after` is not a data set.
        """
        try:
            return page_of([dataset_id for dataset_id, _ in self._names()], self._read, limit, after)
        except KeyError:
            raise UnknownDataset(after) from None

    def get(self, dataset_id: str) -> DatasetRecord:
        """Returns the data set's entry.

        Raises:
            UnknownDataset: There is no such data set.
        """
        if not is_id(dataset_id):
            raise UnknownDataset(dataset_id)
        record = self._read(dataset_id)
        if record is None:
            raise UnknownDataset(dataset_id)
        return record

    def find(self, text: str) -> str:
        """Returns the id of a data set that is given by its id or, where no other set has it, by its name.

        Raises:
            UnknownDataset: There is no such data set.
            AmbiguousName: Several data sets have the name.
        """
        if is_id(text) and (text in BUILT_IN_NAMES or self._has_source(text)):
            return text
        found = id_of_name("data sets", text, self._names())
        if found is None:
            raise UnknownDataset(text)
        return found

    def add_path(
        self, name: str, path: Path, *, layout: str = "auto", split: str = "official", stride: int = 1
    ) -> DatasetRecord:
        """Registers a folder of pictures or an archive, which stays where it is.

        Args:
            name: Name of the data set.
            path: The folder or file.
            layout: Layout of the folder or archive, or auto.
            split: How its images are divided into splits.
            stride: Only every n-th frame of videos and animations is used.

        Raises:
            ConfigError: The name is not allowed.
            DatasetError: There is no such folder or file, or no picture in it.
        """
        name, path = validate_name(name), path.expanduser().absolute()
        if path.is_dir():
            ImageFolder(path, layout, split, stride)
            check_folder(path, self.limits)
            return self._add(name, "folder", str(path), layout, split, stride=stride)
        check_upload(path)
        file_source(path, layout=layout, split=split, stride=stride)
        return self._add(name, "file", str(path), layout, split, stride=stride)

    def add_upload(
        self,
        name: str,
        path: Path,
        *,
        filename: str,
        layout: str = "auto",
        split: str = "official",
        stride: int = 1,
        id: str | None = None,
    ) -> DatasetRecord:
        """Moves an uploaded archive into the storage and registers it.

        Args:
            name: Name of the data set.
            path: The local file, which is removed.
            filename: The client's name of the file; its suffix decides how the file is read.
            layout: Layout of the archive, or auto.
            split: How its images are divided into splits.
            stride: Only every n-th frame of videos and animations is used.
            id: Id that follows from the content; None makes a free one of the name.

        Raises:
            ConfigError: The name is not allowed.
            DatasetError: The suffix is unknown.
        """
        name, suffix = validate_name(name), suffix_of(filename)
        if suffix not in UPLOAD_SUFFIXES:
            raise DatasetError("not_an_archive", f"{filename}: expected one of {', '.join(UPLOAD_SUFFIXES)}")
        record_id = id or self._free_id(name)
        try:
            self.storage.move_file(f"datasets/{record_id}/upload{suffix}", path)
            return self._add(name, "upload", f"upload{suffix}", layout, split, record_id, stride=stride)
        except OSError:
            self.storage.delete(f"datasets/{record_id}")
            raise

    def delete(self, dataset_id: str) -> None:
        """Removes a data set's packs and its uploaded file; the pictures of a registered folder stay.

        Raises:
            UnknownDataset: There is no such data set.
        """
        self.get(dataset_id)
        self.storage.delete(f"datasets/{dataset_id}")

    def source(self, dataset_id: str) -> Source:
        """Returns where the pictures come from.

        Raises:
            UnknownDataset: There is no such data set.
            DatasetError: The pictures are gone.
        """
        record = self.get(dataset_id)
        if record.kind == "builtin":
            return BuiltIn(record.source)
        if record.kind == "folder":
            return ImageFolder(Path(record.source), record.layout, record.split, record.stride)
        path = Path(record.source)
        if record.kind == "upload":
            path = self.storage.local_file(f"datasets/{dataset_id}/{record.source}")
        return file_source(path, layout=record.layout, split=record.split, stride=record.stride)

    def num_channels(self, dataset_id: str) -> int:
        """Returns 3 if the pictures have colours, otherwise 1.

        If the pictures cannot be read, the packs decide; without packs the answer is 1.

        Raises:
            UnknownDataset: There is no such data set.
            DatasetError: The file needs h5py (code needs_h5py), which only workers have; or reading it
                crashes or takes too long (code parser_died).
        """
        kept = f"datasets/{dataset_id}/channels.json"
        is_upload = self.get(dataset_id).kind == "upload"
        if is_upload:  # An upload cannot change, and may be in a remote storage.
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

    def num_images(self, dataset_id: str) -> int | None:
        """Returns the number of images of the newest pack, or about the number of pictures of a set without one.

        Returns None if it cannot be found out in a few seconds.

        Raises:
            UnknownDataset: There is no such data set.
        """
        record = self.get(dataset_id)
        if record.num_images is not None:
            return record.num_images
        if record.kind == "upload" and not isinstance(self.storage, LocalStorage):
            return None  # Counting would fetch the whole file.
        try:
            return count_images_in_child(self.source(dataset_id), self.limits)
        except DatasetError:
            return None

    def open(self, dataset_id: str, preprocessing: Preprocessing, *, check_source: bool = False) -> Pack | None:
        """Opens the pack of a data set on this machine.

        Args:
            dataset_id: Id of the data set.
            preprocessing: Preprocessing of the pack.
            check_source: True accepts a pack only if its source (a folder, a file or a built-in renderer) has not
                changed since. Uploads cannot change, and the pack of a source that is gone is accepted.

        Returns:
            The pack, or None if it has to be made.

        Raises:
            UnknownDataset: There is no such data set.
        """
        record = self.get(dataset_id)
        try:
            folder = self.storage.local_folder(pack_prefix(dataset_id, preprocessing))
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
        """Packs a data set, which replaces an older pack of the same preprocessing.

        Args:
            dataset_id: Id of the data set.
            preprocessing: Preprocessing of the pack.
            on_progress: Called with the number of images that are done and of all images.
            packer: The function that does the work; the default packs in this process.

        Raises:
            UnknownDataset: There is no such data set.
            DatasetError: The data set cannot be packed. Its entry shows the error.
        """
        record = self.get(dataset_id)
        prefix = pack_prefix(dataset_id, preprocessing)
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
            failure = {"code": error.code, "message": error.message}
            self.storage.write_json(failure_key(dataset_id), failure, reserve=True)
            raise
        if not isinstance(self.storage, LocalStorage):
            self.storage.put_folder(prefix, folder)
        self.storage.delete(failure_key(dataset_id))
        return open_pack(folder, preprocessing=preprocessing)

    def packs(self, dataset_id: str) -> list[PackInfo]:
        """Returns the descriptions of a data set's packs, the newest first."""
        found = []
        for name in self.storage.list(f"datasets/{dataset_id}"):
            try:
                found.append(PackInfo.from_json(self.storage.read_json(f"datasets/{dataset_id}/{name}/dataset.json")))
            except (NotStored, ValueError):
                continue
        return sorted(found, key=lambda pack: pack.created_at, reverse=True)

    def rejected(self, dataset_id: str, preprocessing: Preprocessing | None = None) -> bytes:
        """Returns rejected.jsonl of the pack with this preprocessing, else of the newest; empty if there is none."""
        for chosen in [preprocessing] if preprocessing else [pack.preprocessing for pack in self.packs(dataset_id)]:
            with suppress(NotStored):
                return self.storage.read_bytes(f"{pack_prefix(dataset_id, chosen)}/rejected.jsonl")
        return b""

    def has_changed(self, dataset_id: str, pack: Pack) -> bool:
        """Returns whether the source of a pack has changed since; a source that is gone has not.

        Raises:
            UnknownDataset: There is no such data set.
        """
        return self._fingerprint(self.get(dataset_id)) not in (None, pack.info.source_fingerprint)

    def _fingerprint(self, record: DatasetRecord) -> str | None:
        """Returns the fingerprint of the source now; None if the source cannot change or is gone."""
        if record.kind == "upload":
            return None
        try:
            return fingerprint(self.source(record.id), self.limits)
        except DatasetError as error:
            log.warning("data set %s: %s", record.id, error.message)
            return None

    def _add(
        self,
        name: str,
        kind: str,
        source: str,
        layout: str,
        split: str,
        dataset_id: str | None = None,
        *,
        stride: int = 1,
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
            "stride": stride,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.storage.write_json(f"datasets/{dataset_id}/source.json", record)
        log.info("data set %s: registered (%s %s)", dataset_id, kind, source)
        return self.get(dataset_id)

    def _names(self) -> list[tuple[str, str]]:
        """Returns the id and the name of each data set, in the order of `records`."""
        others = [one for one in self._stored.all().items() if one[0] not in BUILT_IN_NAMES]
        return [*BUILT_IN_NAMES.items(), *sorted(others, key=lambda one: one[1])]

    def _stored_name(self, dataset_id: str) -> str | None:
        description = self._description(dataset_id)
        return None if description is None else str(description["name"])

    def _description(self, dataset_id: str) -> dict[str, Any] | None:
        """Returns where the pictures of a data set come from; None for one that is gone or damaged."""
        if dataset_id in BUILT_IN_NAMES:
            return {"id": dataset_id, "kind": "builtin", "source": dataset_id, "name": BUILT_IN_NAMES[dataset_id]}
        try:
            description: dict[str, Any] = self.storage.read_json(f"datasets/{dataset_id}/source.json")
            del description["format_version"]
            return DatasetRecord(**description).to_json()
        except NotStored:
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.warning("data set %s: source.json cannot be read: %s", dataset_id, error)
            return None

    def _read(self, dataset_id: str) -> DatasetRecord | None:
        description = self._description(dataset_id)
        if description is None:
            return None
        packs = self.packs(dataset_id)
        if packs:
            description |= {"num_images": packs[0].num_images, "num_rejected": packs[0].num_rejected}
            description["packs"] = [pack_summary(pack) for pack in packs]
        failure = self._failure(dataset_id)
        status = "ready" if packs else "failed" if failure else "unpacked"
        return DatasetRecord(**{**description, "status": status, "error": failure})

    def _failure(self, dataset_id: str) -> dict[str, str] | None:
        try:
            return dict(self.storage.read_json(failure_key(dataset_id)))
        except (NotStored, ValueError, TypeError):
            return None

    def _has_source(self, dataset_id: str) -> bool:
        return dataset_id not in BUILT_IN_NAMES and self.storage.exists(f"datasets/{dataset_id}/source.json")

    def _free_id(self, name: str) -> str:
        """Makes an id of a name that no data set has."""
        return free_id(
            slug(name, otherwise="set"), lambda one: one in BUILT_IN_NAMES or self.storage.exists(f"datasets/{one}")
        )


def open_dataset_registry(settings: Settings, storage: Storage) -> DatasetRegistry:
    """Opens the data sets of a storage, with the limits of the settings."""
    return DatasetRegistry(storage, cache_folder=settings.cache_folder, max_image_pixels=settings.max_image_pixels)
