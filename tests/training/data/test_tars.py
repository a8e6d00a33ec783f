"""Tar archives as data sets: as published, compressed, damaged and hostile."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets_support import Files, as_folder, as_tar, code_of, packed, picture
from hostile_files import cost_of

from models.archives import ArchiveError
from models.tars import open_tar
from training.data.datasets import Limits, ZipFile, file_source, num_channels_of
from training.data.packs import read_rejected
from training.data.picture_files import check_zip

FILES: Files = {f"set/{i:03}.png": picture(i) for i in range(8)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".TGZ"])
def test_a_tar_gives_the_pictures_of_its_folder(tmp_path: Path, suffix: str) -> None:
    source = as_tar(tmp_path, {"./" + name: data for name, data in FILES.items()}, suffix=suffix)
    assert file_source(source.path) == source
    check_zip(source.path, Limits())
    assert num_channels_of(source) == 3
    assert packed(source, tmp_path).info.digest == packed(as_folder(tmp_path, FILES), tmp_path).info.digest


def test_the_files_of_macos_are_ignored_and_links_refused(tmp_path: Path) -> None:
    source = as_tar(tmp_path, FILES | {"set/._000.png": b"?", "../up.png": picture(9), "/root.png": picture(9)})
    with tarfile.open(source.path, "a") as archive:
        for kind, name in (
            (tarfile.SYMTYPE, "soft.png"),
            (tarfile.LNKTYPE, "hard.png"),
            (tarfile.FIFOTYPE, "pipe.png"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    pack = packed(source, tmp_path)
    assert pack.info.num_images == 8
    assert {r.file: r.code for r in read_rejected(pack.folder)} == {
        "../up.png": "unsafe_path", "/root.png": "unsafe_path", "soft.png": "unsafe_path",
        "hard.png": "unsafe_path", "pipe.png": "unreadable",
    }  # fmt: skip


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    source = as_tar(tmp_path, FILES)
    with source.path.open("r+b") as file:
        file.seek(156)  # The type of the first member.
        file.write(b"S")
        file.seek(148)
        file.write(b" " * 8)
        file.seek(0)
        head = file.read(512)
        file.seek(148)
        file.write(b"%06o\0 " % sum(head))
    pack = packed(source, tmp_path)
    assert [(r.file, r.code) for r in read_rejected(pack.folder)] == [("set/000.png", "unreadable")]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_cut_tar_is_used_where_it_can_be(tmp_path: Path, suffix: str) -> None:
    source = as_tar(tmp_path, FILES, suffix=suffix)
    data = source.path.read_bytes()
    source.path.write_bytes(data[: len(data) // 2])
    if suffix == ".tar.gz":
        assert code_of(source, tmp_path) == "not_a_tar"
    else:
        assert 1 <= packed(source, tmp_path).info.num_images < 8


OTHERS = {
    "empty": b"",
    "text": b"no tar",
    "no gzip": b"\x1f\x8b no gzip",
    "bytes": b"\7x" * 4096,
    "gzip": gzip.compress(b"no tar" * 999, mtime=0),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_other_bytes_are_no_tar(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(data)
    assert code_of(ZipFile(path), tmp_path) in ("not_a_tar", "no_images")


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.rjust(11, b"0") + b"\0")
    block += b"00000000000\0" + b" " * 8 + kind
    block = block.ljust(257, b"\0") + b"ustar\x0000"
    block = block.ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _many() -> bytes:
    return header(b"a.png", b"0") * 3000


def _long_name() -> bytes:
    return header(b"././@LongLink", b"%o" % (2**33 - 512), b"L") + bytes(1024)


def _backwards() -> bytes:
    record = b"14 size=-1024\n"
    return header(b"x", b"%o" % len(record), b"x") + record.ljust(512, b"\0") + header(b"a.png", b"0") + bytes(1024)


@pytest.mark.parametrize(
    ("make", "code"), [(_many, "too_many_files"), (_long_name, "not_a_tar"), (_backwards, "not_a_tar")]
)
def test_hostile_headers_are_refused_early(tmp_path: Path, make: Callable[[], bytes], code: str) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(make())
    with pytest.raises(ArchiveError) as caught, open_tar(path, max_entries=2000, max_bytes=2**20):
        pass
    assert caught.value.code == code


def test_a_compressed_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(header(b"a.png", b"%o" % 2**27))
        file.write(bytes(2**27))
    with pytest.raises(ArchiveError) as caught, open_tar(path, max_entries=10, max_bytes=2**26):
        pass
    assert caught.value.code == "tar_bomb"
    with open_tar(path, max_entries=10, max_bytes=2**20, is_sample=True) as archive:
        assert [entry.problem for entry in archive.entries] == ["it is cut off"]


_LIST = """
from pathlib import Path
from models.tars import open_tar
# work
with open_tar(Path(sys.argv[1]), max_entries=10**6, max_bytes=2**20) as archive:
    print(len(archive.entries))
"""


def test_listing_a_tar_takes_little_memory_for_a_file(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with path.open("wb") as file:
        file.writelines(header(b"%d.png" % number, b"0") for number in range(20_000))
    cost = cost_of(_LIST, path)
    assert cost.output == "20000"
    assert cost.peak_mib < 20


def test_a_member_that_repeats_is_read_in_its_newest_version(tmp_path: Path) -> None:
    source = as_tar(tmp_path, FILES)
    with tarfile.open(source.path, "a") as archive:
        member = tarfile.TarInfo("set/000.png")
        member.size = len(picture(50))
        archive.addfile(member, io.BytesIO(picture(50)))
    wanted = packed(as_folder(tmp_path, FILES | {"set/000.png": picture(50)}), tmp_path)
    assert packed(source, tmp_path).info.digest == wanted.info.digest
