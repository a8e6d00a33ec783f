"""Storage of files in a local folder or at any fsspec URL. This module loads no torch.

A key, such as `jobs/<id>/job.json`, is a relative path with `/`. Files appear whole or not at all.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from models.atomic import create_bytes as create_file
from models.atomic import open_atomic
from models.atomic import write_bytes as write_file
from training.data.sources import mark_as_own
from worker.stores.room import Room, StorageFull


class NotStored(KeyError):
    """There is nothing under this key."""

    def __str__(self) -> str:
        return f"nothing is stored under {self.args[0]}"


def check_key(key: str) -> str:
    """Returns the key itself.

    Raises:
        ValueError: The key could leave the storage or name a temporary file.
    """
    parts = key.split("/")
    if any(part in ("", "..") or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        raise ValueError(f"not a storage key: {key!r}")
    return key


class Storage(ABC):
    """Files by key. All methods raise OSError when the storage itself fails."""

    url: str
    """The folder or URL of the storage."""

    @abstractmethod
    def read_bytes(self, key: str) -> bytes:
        """Returns the content of a file.

        Raises:
            NotStored: There is no such file.
        """

    @abstractmethod
    def write_bytes(self, key: str, data: bytes, *, reserve: bool = False) -> None:
        """Writes or replaces a file, whole or not at all.

        Args:
            key: The key of the file.
            data: Its content.
            reserve: True may use the free space that other files have to leave, for small files that must be written.

        Raises:
            StorageFull: There is no room.
        """

    @abstractmethod
    def create_bytes(self, key: str, data: bytes) -> bool:
        """Writes a file unless there is one; of several calls at once, one writes.

        Returns:
            False if there is such a file, which stays as it is.

        Raises:
            StorageFull: There is no room.
        """

    @abstractmethod
    def put_file(self, key: str, path: Path) -> None:
        """Copies a local file into the storage, whole or not at all."""

    def move_file(self, key: str, path: Path) -> None:
        """Moves a local file into the storage."""
        self.put_file(key, path)
        path.unlink(missing_ok=True)

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Returns whether there is a file under the key, or any file below it."""

    @abstractmethod
    def list(self, prefix: str) -> list[str]:
        """Returns the sorted names of the direct children of a prefix; none if there is no such prefix."""

    @abstractmethod
    def versions(self, prefix: str, name: str) -> dict[str, str]:
        """Returns which folders directly below a prefix have a file of a name, and a text that changes with the file.

        Args:
            prefix: The prefix.
            name: Name of the file in each folder.

        Returns:
            The text by the name of the folder, sorted by these.
        """

    @abstractmethod
    def delete(self, prefix: str) -> None:
        """Removes a file or everything below a prefix, if there is any."""

    @abstractmethod
    def local_folder(self, prefix: str) -> Path:
        """Returns a local folder with all files below the prefix: the folder itself, or a copy.

        Raises:
            NotStored: There is no file below the prefix.
        """

    @abstractmethod
    def local_file(self, key: str) -> Path:
        """Returns a local path of a file: the file itself, or a copy.

        Raises:
            NotStored: There is no such file.
        """

    @abstractmethod
    def keep_room(self) -> None:
        """Removes old traversals that nobody named where there is no room."""

    def read_json(self, key: str) -> Any:
        """Returns the content of a JSON file.

        Raises:
            NotStored: There is no such file.
            ValueError: The file is damaged.
        """
        return json.loads(self.read_bytes(key))

    def write_json(self, key: str, value: Any, *, reserve: bool = False) -> None:
        """Writes a JSON file with indentation; see write_bytes."""
        data = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
        self.write_bytes(key, data, reserve=reserve)

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Copies every file of a local folder below a prefix.

        The JSON descriptions at the folder's top come last, so that a reader who finds a description finds everything
        that it describes.
        """
        check_key(prefix)
        is_new = not self.exists(prefix)
        try:
            for path in _describing_last(folder):
                self.put_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
        except OSError:
            if is_new:  # A full disk leaves no part of the folder.
                self.delete(prefix)
            raise


def _describing_last(folder: Path) -> list[Path]:
    """Returns the files of a folder, the JSON files at its top last."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return sorted(files, key=lambda path: (path.parent == folder and path.suffix == ".json", path))


class LocalStorage(Storage):
    """A folder on this machine."""

    def __init__(self, root: Path, room: Room | None = None) -> None:
        self.root = root.expanduser().absolute()
        self.url = str(self.root)
        self.room = room or Room(self.root)

    def path(self, key: str) -> Path:
        """Returns the path of a key, whether or not there is anything."""
        return self.root / check_key(key)

    def read_bytes(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotStored(key) from None

    def write_bytes(self, key: str, data: bytes, *, reserve: bool = False) -> None:
        path = self.path(key)
        if not reserve:
            self.room.check(len(data))
        write_file(path, data)

    def create_bytes(self, key: str, data: bytes) -> bool:
        path = self.path(key)
        if path.exists():
            return False
        self.room.check(len(data))
        return create_file(path, data)

    def put_file(self, key: str, path: Path) -> None:
        target = self.path(key)
        if target.exists() and target.samefile(path):
            return
        self.room.check(path.stat().st_size)
        with path.open("rb") as source, open_atomic(target) as file:
            shutil.copyfileobj(source, file, 1024**2)

    def move_file(self, key: str, path: Path) -> None:
        target = self.path(key)
        self.room.check()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.replace(target)
        except OSError:  # The target is on another file system, where only a copy can appear whole.
            super().move_file(key, path)

    def keep_room(self) -> None:
        with suppress(StorageFull):
            self.room.check()

    def exists(self, key: str) -> bool:
        return self.path(key).exists()

    def list(self, prefix: str) -> list[str]:
        try:
            return sorted(child.name for child in self.path(prefix).iterdir() if not child.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def versions(self, prefix: str, name: str) -> dict[str, str]:
        found = {}
        for child in self.list(prefix):
            with suppress(FileNotFoundError, NotADirectoryError):
                status = os.stat(f"{self.root}/{prefix}/{child}/{name}")
                found[child] = f"{status.st_mtime_ns} {status.st_ino} {status.st_size}"
        return found

    def delete(self, prefix: str) -> None:
        path = self.path(prefix)
        if not path.is_dir():
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            return
        # The descriptions go first, so that a removal that is cut short leaves no description of missing files.
        for description in sorted(path.glob("*.json")):
            description.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)

    def local_folder(self, prefix: str) -> Path:
        path = self.path(prefix)
        if not path.is_dir():
            raise NotStored(prefix)
        return path

    def local_file(self, key: str) -> Path:
        path = self.path(key)
        if not path.is_file():
            raise NotStored(key)
        return path


class RemoteStorage(Storage):
    """An fsspec file system, such as s3://bucket/prefix, with copies in a local cache.

    fsspec's own `filecache` does not fit: it downloads straight to the final name, so another process may read half
    a file, and it keeps files under hashed names, while a model or a pack has to be a folder.
    """

    def __init__(self, url: str, cache_folder: Path) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self.root = self.root.rstrip("/")
        self.cache = cache_folder / hashlib.sha256(url.encode()).hexdigest()[:12]

    def _path(self, key: str) -> str:
        return f"{self.root}/{check_key(key)}"

    def read_bytes(self, key: str) -> bytes:
        try:
            return bytes(self.fs.cat_file(self._path(key)))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotStored(key) from None

    def write_bytes(self, key: str, data: bytes, *, reserve: bool = False) -> None:
        # Object stores show only whole objects, and have no folders; elsewhere the file is renamed once it is whole.
        path = self._path(key)
        if _is_object_store(self.fs):
            self.fs.pipe_file(path, data)
            return
        self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        temporary = _temporary(path)
        with self._removed_on_error(temporary):
            self.fs.pipe_file(temporary, data)
            self.fs.mv(temporary, path)

    def create_bytes(self, key: str, data: bytes) -> bool:
        # Few object stores can write a file only where there is none, so two calls at the same instant may both write.
        if self.exists(key):
            return False
        self.write_bytes(key, data)
        return True

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        if _is_object_store(self.fs):
            self.fs.put_file(str(path), target)
            return
        self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        temporary = _temporary(target)
        with self._removed_on_error(temporary):
            self.fs.put_file(str(path), temporary)
            self.fs.mv(temporary, target)

    @contextmanager
    def _removed_on_error(self, temporary: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with suppress(OSError):
                self.fs.rm_file(temporary)
            raise

    def keep_room(self) -> None:
        """Does nothing, since only a folder has such a limit."""

    def exists(self, key: str) -> bool:
        return bool(self.fs.exists(self._path(key)))

    def list(self, prefix: str) -> list[str]:
        try:
            children = self.fs.ls(self._path(prefix), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = {child.rstrip("/").rsplit("/", 1)[-1] for child in children}
        return sorted(name for name in names if name and not name.startswith("."))

    def versions(self, prefix: str, name: str) -> dict[str, str]:
        root = self._path(prefix)
        try:
            found = self.fs.find(root, detail=True)  # One listing, where each file by itself is a request.
        except (FileNotFoundError, NotADirectoryError):
            return {}
        files = {path[len(root) + 1 :]: details for path, details in sorted(found.items())}
        children = {path.removesuffix(f"/{name}"): path for path in files if path.endswith(f"/{name}")}
        return {child: _version(files[path]) for child, path in children.items() if "/" not in child}

    def delete(self, prefix: str) -> None:
        path = self._path(prefix)
        try:
            if _is_object_store(self.fs):  # It has no folders, and takes many names in one request.
                files = self.fs.find(path)
                descriptions = [file for file in files if re.fullmatch(r"/[^/]+\.json", file[len(path) :])]
                for names in (descriptions, sorted(set(files) - set(descriptions))):
                    if names:
                        self.fs.rm(names)
            else:
                for child in self.fs.glob(f"{path}/*.json"):
                    self.fs.rm_file(child)
                self.fs.rm(path, recursive=True)
        except (FileNotFoundError, NotADirectoryError):
            pass
        shutil.rmtree(self.cache / prefix, ignore_errors=True)

    def local_file(self, key: str) -> Path:
        try:
            details = self.fs.info(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            raise NotStored(key) from None
        return self._copy(key, details)

    def local_folder(self, prefix: str) -> Path:
        root = self._path(prefix)
        found = self.fs.find(root, detail=True)
        files = {name[len(root) + 1 :]: details for name, details in found.items() if len(name) > len(root)}
        if not files:
            raise NotStored(prefix)
        folder = self.cache / prefix
        for name, details in files.items():
            if not any(part.startswith(".") for part in name.split("/")):
                self._copy(f"{prefix}/{name}", details)
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.startswith(".") and path.relative_to(folder).as_posix() not in files:
                path.unlink(missing_ok=True)
        return folder

    def _copy(self, key: str, details: dict[str, Any]) -> Path:
        """Returns a local copy, which is fetched again only if the version that the store reports differs."""
        path = self.cache / key
        mark = path.with_name(f".{path.name}.version")
        version = _version(details)
        if path.is_file() and mark.is_file() and mark.read_text() == version:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(_temporary(str(path)))
        try:
            self.fs.get_file(self._path(key), str(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        write_file(mark, version.encode())
        return path


def _version(details: dict[str, Any]) -> str:
    """Returns a text that changes with a file, from what its file system says of it."""
    return "|".join(str(details.get(name)) for name in ("ETag", "etag", "mtime", "LastModified", "created", "size"))


def _temporary(path: str) -> str:
    """Returns a new hidden name in the same folder."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(4)}"


def _is_object_store(fs: Any) -> bool:
    """Returns whether the file system shows only whole objects."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    return bool({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"} & set(protocols))


def open_storage(url: str | Path, *, cache_folder: Path | None = None) -> Storage:
    """Opens the storage at a folder or an fsspec URL.

    Args:
        url: The folder or URL.
        cache_folder: Where copies of a remote storage's files are kept.

    Raises:
        ValueError: The kind of the URL is unknown or its driver is not installed.
    """
    text = str(url)
    if "://" not in text or text.startswith("file://"):
        storage = LocalStorage(Path(text.removeprefix("file://")))
        if storage.root.is_dir():
            mark_as_own(storage.root)
        return storage
    try:
        return RemoteStorage(text, cache_folder or Path("betavae-data/cache").absolute())
    except (ValueError, ImportError) as error:
        raise ValueError(f"storage {text.split('://')[0]}://… cannot be opened: {error}") from error
