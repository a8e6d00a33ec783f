"""One rule for all zips: listed methods only, counted output, and a directory that is walked before it is read."""

import io
import zipfile
from pathlib import Path

import pytest
from hostile_files import cost_of, crowded_zip, zip_bomb

from models.archives import ArchiveError, open_archive

OTHER_METHODS = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
OURS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def code_of(data: bytes, *, max_entries: int = 100, max_bytes: int = 1000) -> str:
    with pytest.raises(ArchiveError) as refused, open_archive(io.BytesIO(data), max_entries=max_entries) as archive:
        archive.read(archive.entries[0], max_bytes)
    return refused.value.code


@pytest.mark.parametrize("method", OURS)
def test_members_are_read(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of({"a": b"one", "b": b"two"}, method))
    with open_archive(path, max_entries=2) as archive:
        assert [archive.read(entry, 3) for entry in archive.entries] == [b"one", b"two"]
        assert archive.open(archive.entry("b")).read() == b"two"


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_other_methods_are_refused_by_name(method: int) -> None:
    data = zip_of({"a": b"one"}, method)
    with open_archive(io.BytesIO(data), max_entries=2) as archive, pytest.raises(ArchiveError, match=r"bzip2|LZMA"):
        archive.open(archive.entries[0])
    assert code_of(data) == "unsupported_method"


def test_what_comes_out_is_counted_and_not_what_the_header_says() -> None:
    assert code_of(zip_of({"a": bytes(1001)})) == "member_too_large"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5000))
        archive.infolist()[0].file_size = 2**40
    assert code_of(buffer.getvalue()) == "member_too_large"


@pytest.mark.parametrize("record", ["32 bit", "64 bit", "64 bit hidden"])
def test_entries_are_counted_wherever_zipfile_finds_its_directory(record: str) -> None:
    for num_entries in (101, 5000):
        assert code_of(crowded_zip(num_entries, record=record)) == "too_many_files"
    with open_archive(io.BytesIO(crowded_zip(5000, record=record)), max_entries=5000) as archive:
        assert len(archive.entries) == 5000


def test_long_names_count_like_more_entries() -> None:
    data = crowded_zip(50, name=b"n" * 60_000)
    assert code_of(data) == "too_many_files"


@pytest.mark.parametrize("name", [b"", b"n" * 100, b"n" * 47_000])
def test_the_walk_finds_every_entry_across_its_pieces(name: bytes) -> None:
    data = crowded_zip(70, name=name)
    with open_archive(io.BytesIO(data), max_entries=10_000) as archive:
        assert len(archive.entries) == 70
    assert code_of(crowded_zip(70_000, name=b"name"), max_entries=69_999) == "too_many_files"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and then nothing", b"PK\x05\x06" + b"\xff" * 18, bytes(100_000)])
def test_what_is_no_zip_is_refused(data: bytes) -> None:
    assert code_of(data) in ("not_a_zip", "too_many_files")


def test_damage_anywhere_is_an_archive_error_or_harmless() -> None:
    data = zip_of({"a": b"one" * 50, "b": b"two"})
    for at in range(len(data)):
        hurt = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        try:
            with open_archive(io.BytesIO(hurt), max_entries=10):
                pass
        except ArchiveError:
            continue


_OPEN = """
from models.archives import ArchiveError, open_archive
from pathlib import Path
# work
try:
    with open_archive(Path(sys.argv[1]), max_entries=int(sys.argv[2])) as archive:
        print(len(archive.read(archive.entries[0], 2**20)))
except ArchiveError as error:
    print(error.code)
"""


@pytest.mark.parametrize("record", ["32 bit", "64 bit", "64 bit hidden"])
def test_a_directory_of_many_entries_is_refused_in_little_memory(record: str, tmp_path: Path) -> None:
    path = tmp_path / "crowded.zip"
    path.write_bytes(crowded_zip(300_000, record=record))
    cost = cost_of(_OPEN, path, 40_000)  # The size of 13.8 MB is within the limit; only the count exceeds it.
    assert cost.output == "too_many_files"
    assert cost.peak_mib < 10  # zipfile alone takes 200.


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_a_bomb_of_another_method_takes_no_memory(method: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zip_bomb("a.bmp", 200 * 2**20, method))
    assert path.stat().st_size < 50_000
    cost = cost_of(_OPEN, path, 100)
    assert cost.output == "unsupported_method"
    assert cost.peak_mib < 10
