"""Files of data sets: one of every accepted kind, and those made to cost memory or to reach other files."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as imageio
import numpy as np
from hostile_files import crowded_zip, npy_with_long_header, zip_bomb

from corpus.pictures import ACCEPTED as PICTURES
from corpus.pictures import animated, saved

MIB = 2**20
Make = Callable[[], bytes]
Packed = tuple[int, int]
"""The numbers of packed and of rejected files."""


@dataclass(frozen=True)
class Set:
    """A file, the name under which it is sent, and what comes of it.

    Attributes:
        name: The case's name.
        filename: The name of the file.
        make: Makes the file.
        refused: The code with which its upload is refused; empty if it is taken.
        packs: The numbers of packed and rejected pictures, or the code with which packing fails; None: it is not
            packed.
        says: A part of the refusal's text.
    """

    name: str
    filename: str
    make: Make
    refused: str = ""
    packs: Packed | str | None = None
    says: str = ""


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """Returns a tar of files and of further members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in others:
            archive.addfile(member)
    return buffer.getvalue()


def pictures(num: int = 4) -> dict[str, bytes]:
    """Returns some small pictures by name."""
    data = PICTURES["png-L"]()
    return {f"set/{number}.png": data for number in range(num)}


def npy(array: Any, **options: Any) -> bytes:
    """Returns a .npy file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npy_header(shape: str, descr: str = "'|u1'", data: bytes = bytes(64)) -> bytes:
    """Returns a .npy file whose header declares anything."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def pixels(num: int = 4) -> Any:
    """Returns pictures as an array, (num, 32, 32) uint8."""
    return np.random.default_rng(0).integers(0, 256, (num, 32, 32), np.uint8)


def npz(**arrays: Any) -> bytes:
    """Returns a .npz file of arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def made_as_file(suffix: str, write: Callable[[Path], Any]) -> bytes:
    """Returns the bytes of a file that a library writes by its path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made{suffix}"
        write(path)
        return path.read_bytes()


def hdf5(fill: Callable[[h5py.File], Any]) -> bytes:
    """Returns an HDF5 file."""

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    return made_as_file(".h5", write)


def film() -> bytes:
    """Returns a video of four frames."""
    frames = np.repeat(pixels()[..., None], 3, axis=3)
    return made_as_file(".mp4", lambda path: imageio.imwrite(path, frames, plugin="FFMPEG", fps=10))


ACCEPTED: dict[str, Make] = {
    "set.zip": lambda: zipped(pictures()),
    "stored.zip": lambda: zipped(pictures(), zipfile.ZIP_STORED),
    "set.tar": lambda: tarred(pictures()),
    "set.tar.gz": lambda: gzip.compress(tarred(pictures())),
    "set.npz": lambda: npz(imgs=pixels()),
    "set.npy": lambda: npy(pixels()),
    "set.h5": lambda: hdf5(lambda file: file.create_dataset("images", data=pixels(), chunks=(1, 32, 32),
                                                            compression="gzip")),
    "film.gif": animated("GIF"),
    "film.mp4": film,
}  # fmt: skip
"""Each is taken as it is, under its name."""
_NUM_PICTURES = {"film.gif": 3}


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Returns a member of a tar that is no plain file."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def symlink_zip() -> bytes:
    """Returns a zip with a symbolic link to a file of the host among pictures."""
    buffer = io.BytesIO(zipped(pictures()))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("set/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def overlapping_zip(num: int = 2000) -> bytes:
    """Returns a zip whose entries are all the same 10 MB of a deflated picture."""
    data = zipped({"0.bmp": b"BM" + bytes(10 * MIB)})
    at = data.index(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    directory = data[at:end] * num
    record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, num, num, len(directory), at, 0)
    return data[:at] + directory + record


def zip_that_lies(size: int) -> bytes:
    """Returns a zip whose only picture declares a size and unpacks to 64 MB."""
    data = bytearray(zipped({"0.bmp": b"BM" + bytes(64 * MIB)}))
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.index(mark) + offset
        data[at : at + 4] = struct.pack("<L", size)
    return bytes(data)


def encrypted_zip() -> bytes:
    """Returns a zip whose members are marked as encrypted."""
    data = bytearray(zipped(pictures(), zipfile.ZIP_STORED))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 1)
    return bytes(data)


def tar_bomb() -> bytes:
    """Returns a compressed tar of one file of 2 GiB of zeros."""
    file = member("a.png", tarfile.REGTYPE)
    file.size = 2**31
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as packed:
        packed.write(file.tobuf())
    block = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = block.compress(bytes(16 * MIB)) + block.flush()
    return buffer.getvalue() + zeros * 128  # A gzip file may have many parts.


def h5_of_host_file(file: h5py.File) -> None:
    """Fills an HDF5 file whose pixels lie in a file of the host."""
    file.create_dataset("images", (4, 16, 16), np.uint8, external=[("/etc/passwd", 0, 1024)])


class Shell:
    """An object that would run a command if it were unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/betavae-corpus-was-here",)


def npy_of_objects() -> bytes:
    """Returns a .npy file whose content is a pickle."""
    return npy_header("(1,)", "'|O'", pickle.dumps(Shell()))


CASES: tuple[Set, ...] = (
    *(Set(f"accepted-{name}", name, make, packs=(_NUM_PICTURES.get(name, 4), 0)) for name, make in ACCEPTED.items()),
    # Archives that are refused when they come.
    Set("zip-bzip2-bomb", "a.zip", lambda: zip_bomb("a.bmp", 400 * MIB, zipfile.ZIP_BZIP2, b"BM"), "invalid_dataset",
        says="only stored and deflated"),
    Set("zip-lzma-bomb", "a.zip", lambda: zip_bomb("a.bmp", 400 * MIB, zipfile.ZIP_LZMA, b"BM"), "invalid_dataset",
        says="only stored and deflated"),
    *(Set(f"zip-directory-{record.replace(' ', '-')}", "a.zip",
          partial(crowded_zip, 600_000, record=record), "invalid_dataset", says="more than 550000 files")
      for record in ("32 bit", "64 bit", "64 bit hidden")),
    Set("zip-of-zips", "a.zip", lambda: zipped({f"{k}.zip": zipped(pictures()) for k in range(3)}), "invalid_dataset"),
    Set("zip-of-texts", "a.zip", lambda: zipped({"a.txt": b"no picture"}), "invalid_dataset"),
    Set("zip-cut", "a.zip", lambda: zipped(pictures())[:-30], "invalid_dataset"),
    Set("zip-that-is-text", "a.zip", lambda: b"PK\3\4 and no more", "invalid_dataset"),
    Set("zip-without-bytes", "a.zip", lambda: b"", "invalid_dataset"),
    Set("zip-encrypted", "a.zip", encrypted_zip, "invalid_dataset"),
    Set("zip-overlapping", "a.zip", overlapping_zip, "invalid_dataset"),
    Set("tar-that-is-text", "a.tar", lambda: b"no tar" * 1000, "invalid_dataset"),
    Set("tar-gz-bomb", "a.tar.gz", tar_bomb, "invalid_dataset"),
    Set("tar-gz-cut", "a.tar.gz", lambda: gzip.compress(tarred(pictures()))[:-200], "invalid_dataset"),
    Set("tar-of-links-alone", "a.tar", lambda: tarred({}, member("a.png", tarfile.SYMTYPE, "/etc/passwd")),
        "invalid_dataset"),
    Set("film-that-names-files", "a.mp4",
        lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "invalid_dataset"),
    Set("film-that-is-concat", "a.mp4", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", packs="no_images"),
    Set("film-of-zeros", "a.mp4", lambda: bytes(100_000), packs="no_images"),
    Set("another-suffix", "a.rar", lambda: zipped(pictures()), "invalid_request"),
    Set("a-path-as-name", "../../../etc/cron.d/a.zip", lambda: zipped(pictures()), packs=(4, 0)),
    Set("a-long-name", "n" * 3000 + ".zip", lambda: zipped(pictures()), packs=(4, 0)),
    # Archives with a part that is left out.
    Set("zip-that-climbs", "a.zip", lambda: zipped({**pictures(), "../up.png": PICTURES["png-L"](),
                                                    "/root.png": PICTURES["png-L"]()}), packs=(4, 2)),
    Set("zip-with-a-link", "a.zip", symlink_zip, packs=(4, 1)),
    Set("zip-after-a-picture", "a.zip", lambda: PICTURES["png-L"]() + zipped(pictures()), packs=(4, 0)),
    Set("zip-that-lies", "a.zip", lambda: zip_that_lies(10), "invalid_dataset"),
    Set("tar-with-links-and-pipes", "a.tar", lambda: tarred(
        pictures(), member("soft.png", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard.png", tarfile.LNKTYPE, "/etc/passwd"), member("pipe.png", tarfile.FIFOTYPE)), packs=(4, 3)),
    Set("zip-of-picture-bombs", "a.zip", lambda: zipped({**pictures(), "a.gif": b"GIF89a" + b"\xff" * 20,
                                                         "b.bmp": saved("RGB", "BMP")()[:100]}), packs=(4, 2)),
    Set("zip-with-labels-of-lines", "a.zip", lambda: zipped({**pictures(), "set/labels.csv": b"a\n" * 4 * MIB}),
        packs=(4, 1)),
    # Arrays, which are looked into when they are packed.
    Set("npz-bzip2-bomb", "a.npz", lambda: zip_bomb("images.npy", 64 * MIB, zipfile.ZIP_BZIP2,
                                                    npy_with_long_header(64 * MIB)), packs="not_an_archive"),
    Set("npz-header-bomb", "a.npz", lambda: zip_bomb("images.npy", 64 * MIB, zipfile.ZIP_DEFLATED,
                                                     npy_with_long_header(64 * MIB)), packs="not_an_archive"),
    Set("npz-of-texts", "a.npz", lambda: zipped({"a.txt": b"?"}), packs="unsupported_array"),
    Set("npy-of-objects", "a.npy", npy_of_objects, packs="unsupported_array"),
    Set("npy-of-a-million-pictures", "a.npy", lambda: npy_header("(1000000, 4096, 4096)"), packs="unsupported_array"),
    Set("npy-of-minus-one", "a.npy", lambda: npy_header("(-1, 32, 32)"), packs="not_an_archive"),
    Set("npy-of-huge-numbers", "a.npy", lambda: npy_header(f"({'9' * 400}, 32, 32)"), packs="not_an_archive"),
    Set("npy-that-calls", "a.npy", lambda: npy_header("__import__('os').getcwd()"), packs="not_an_archive"),
    Set("npy-deep", "a.npy", lambda: npy_header("(" * 5000 + ")" * 5000), packs="not_an_archive"),
    Set("npy-cut", "a.npy", lambda: npy(pixels())[:-100], packs="not_an_archive"),
    Set("h5-of-a-million-pictures", "a.h5", lambda: hdf5(lambda file: file.create_dataset(
        "images", (1_000_000, 4096, 4096), np.uint8, chunks=(1, 4096, 4096))), packs="unsupported_array"),
    Set("h5-of-a-host-file", "a.h5", lambda: hdf5(h5_of_host_file), packs="unsupported_array"),
    Set("h5-of-a-host-link", "a.h5", lambda: hdf5(lambda file: file.__setitem__(
        "images", h5py.ExternalLink("/etc/passwd", "/images"))), packs="unsupported_array"),
    Set("h5-cut", "a.h5", lambda: ACCEPTED["set.h5"]()[:1000], packs="not_an_archive"),
)  # fmt: skip
