"""Files that an attacker would send: small on the disk, but expensive for a reader without limits."""

import functools
import io
import os
import struct
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


@dataclass(frozen=True)
class Cost:
    """The resources that a program used after its imports."""

    output: str
    peak_mib: float
    cpu_seconds: float


def cost_of(program: str, *arguments: object, timeout_seconds: float = 120) -> Cost:
    """Runs a program in its own process and measures it.

    Args:
        program: Lines of Python that print a result; only what follows the line `# work` is measured.
        arguments: sys.argv[1:].
        timeout_seconds: Wall time after which the test fails.
    """
    imports, work = program.split("# work\n")
    measured = f"""
import resource, sys
{imports}
def _peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
def _cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
_before, _began = _peak(), _cpu()
{work}
print()
print((_peak() - _before) / 1024, _cpu() - _began)
"""
    done = subprocess.run(
        [sys.executable, "-c", measured, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )
    assert done.returncode == 0, done.stderr
    output, _, figures = done.stdout.rstrip("\n").rpartition("\n")
    peak, cpu = map(float, figures.split())
    return Cost(output.strip(), peak, cpu)


@functools.cache
def zip_bomb(name: str, num_bytes: int, method: int, head: bytes = b"") -> bytes:
    """Returns a zip with one member, `head` and then zeros; bzip2 and LZMA make 700 bytes of a gigabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, archive.open(name, "w", force_zip64=True) as member:
        member.write(head)
        zeros = bytes(2**20)
        for start in range(0, num_bytes, 2**20):
            member.write(zeros[: num_bytes - start])
    return buffer.getvalue()


def crowded_zip(num_entries: int, *, record: str = "32 bit", name: bytes = b"") -> bytes:
    """Returns a zip that consists of a directory only.

    Args:
        num_entries: Number of entries, each a heading of 46 bytes and a name.
        record: "32 bit"; "64 bit", where the 32-bit record refers to the 64-bit one; or "64 bit hidden", where the
            32-bit record describes an empty directory, so that only readers that always look for the 64-bit record
            find the entries.
        name: Name of every entry.
    """
    entry = _ENTRY.pack(b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    directory = entry * num_entries
    if record == "32 bit":
        count = min(num_entries, 0xFFFF)
        return directory + _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), 0, 0)
    end64 = _END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, num_entries, num_entries, len(directory), 0)
    locator = _LOCATOR.pack(b"PK\x06\x07", 0, len(directory), 1)
    marks = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF) if record == "64 bit" else (0, 0, 0, len(directory))
    return directory + end64 + locator + _END.pack(b"PK\x05\x06", 0, 0, *marks, 0)


def npy_with_long_header(num_bytes: int) -> bytes:
    """Returns the beginning of a .npy file that declares a header of `num_bytes`."""
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", num_bytes) + b"{" + b" " * 100


def lossless_webp(side: int) -> bytes:
    """Returns a WebP of side × side pixels of one colour; 50 million pixels take 2 kB."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (10, 200, 30)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def jpeg_of_many_scans(num_scans: int, side: int = 2048) -> bytes:
    """Returns a progressive JPEG whose last scan, which refines one coefficient, is repeated `num_scans` times."""
    pixels = np.random.default_rng(0).integers(0, 256, (side // 16, side // 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG", progressive=True, quality=30)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    # The decoder reads missing bits of a block as zeros, so the heading of a scan is enough.
    scan = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:-2] + scan * num_scans + b"\xff\xd9"
