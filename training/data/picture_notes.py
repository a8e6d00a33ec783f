"""What a picture file says beside its pixels: left out before Pillow reads the file, whose limits on it cost pictures.

Free of torch.
"""

import struct
from collections.abc import Iterator

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
"""Chunks that are kept, beside those that the format calls critical: transparency, orientation, and animation."""
_XMP = b"XML:com.adobe.xmp\0\0"
"""Beginning of an uncompressed text chunk from which Pillow reads the orientation if there is no EXIF block."""
_MAX_NOTE_BYTES = 2**16
"""Longest block that is kept for the orientation, as long as one may be in a JPEG."""

_JPEG_KEPT = (0xE0, 0xE1, 0xEE)
"""Application segments of a JPEG that are kept: JFIF, EXIF and XMP, and Adobe's with the colour space."""
_START_OF_SCAN, _COMMENT = 0xDA, 0xFE

_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_ENTRY_BYTES = 12
_TIFF_NOTES = frozenset([270, 271, 272, 282, 283, 285, 296, 297, 305, 306, 315, 316, 33723, 34377, 34665, 34675, 34853])
"""Tags of descriptions, names, times, resolutions, profiles and further directories; no pixel depends on them."""
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "L"}
_TIFF_BITS, _TIFF_WHITE = 258, 262


def without_notes(data: bytes) -> bytes:
    """Returns a picture file without texts, profiles and previews, or the file itself if it has none or is damaged.

    PNG, JPEG and TIFF are read; of the notes of others, Pillow reads none that could stop it.
    """
    if data.startswith(_PNG_SIGNATURE):
        return _joined(data, _png_parts(data))
    if data.startswith(b"\xff\xd8\xff"):
        return _joined(data, _jpeg_parts(data))
    return _tiff(data) if data[:4] in _TIFF_ORDERS else data


def _joined(data: bytes, kept: Iterator[tuple[int, int]]) -> bytes:
    """Joins the kept ranges of a file; neighbours become one range, so that a file without notes is not copied."""
    ranges: list[list[int]] = []
    for start, end in kept:
        if ranges and ranges[-1][1] == start:
            ranges[-1][1] = end
        else:
            ranges.append([start, end])
    return data if ranges == [[0, len(data)]] else b"".join(memoryview(data)[start:end] for start, end in ranges)


def _png_parts(data: bytes) -> Iterator[tuple[int, int]]:
    at = len(_PNG_SIGNATURE)
    yield 0, at
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = min(at + 12 + length, len(data))
        if not kind[0] & 0x20 or kind in _PNG_KEPT or data.startswith(_XMP, at + 8):
            if kind in (b"eXIf", b"iTXt") and length > _MAX_NOTE_BYTES:
                at = end
                continue
            yield at, end
        at = end
        if kind == b"IEND":
            return
    yield at, len(data)


def _jpeg_parts(data: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    yield 0, at
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (_START_OF_SCAN, 0xFF):
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_note = marker == _COMMENT or (0xE0 <= marker <= 0xEF and marker not in _JPEG_KEPT)
        if not is_note or end > len(data):
            yield at, min(end, len(data))
        at = min(end, len(data))
    yield at, len(data)


def _tiff(data: bytes) -> bytes:
    """Rewrites the first directory of a TIFF without its notes.

    Grey pictures of more than 8 bits in which 0 is white are declared as those in which 0 is black, since Pillow opens
    only some of them, and inverts none; see `is_negative`.
    """
    order, start, entries = _tiff_entries(data)
    if not entries:
        return data
    kept = [entry for entry in entries if _tiff_number(entry, order)[0] not in _TIFF_NOTES]
    if is_negative(data):
        kept = [_as_black_is_zero(entry, order) for entry in kept]
    if kept == entries:
        return data
    changed = bytearray(data)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)  # Only the first picture is read.
    changed[start : start + len(directory)] = directory
    return bytes(changed)


def is_negative(data: bytes) -> bool:
    """Returns True if a file is a TIFF of more than 8 bits a pixel in which 0 is white."""
    if data[:4] not in _TIFF_ORDERS:
        return False
    order, _, entries = _tiff_entries(data)
    values = dict(_tiff_number(entry, order) for entry in entries)
    return values.get(_TIFF_WHITE) == 0 and (values.get(_TIFF_BITS) or 1) > 8


def _tiff_entries(data: bytes) -> tuple[str, int, list[bytes]]:
    """Returns the byte order, the place of the first directory, and its entries; none if the directory is cut."""
    order = _TIFF_ORDERS[data[:4]]
    if len(data) < 8:
        return order, 0, []
    (start,) = struct.unpack_from(f"{order}L", data, 4)
    if start + 2 > len(data):
        return order, start, []
    (count,) = struct.unpack_from(f"{order}H", data, start)
    first, end = start + 2, start + 2 + count * _TIFF_ENTRY_BYTES
    if end + 4 > len(data):
        return order, start, []
    return order, start, [data[at : at + _TIFF_ENTRY_BYTES] for at in range(first, end, _TIFF_ENTRY_BYTES)]


def _tiff_number(entry: bytes, order: str) -> tuple[int, int | None]:
    """Returns the tag of an entry, and its value if that is one whole number."""
    tag, kind, count = struct.unpack(f"{order}HHL", entry[:8])
    code = _TIFF_INTEGERS.get(kind)
    return tag, struct.unpack_from(f"{order}{code}", entry, 8)[0] if code and count == 1 else None


def _as_black_is_zero(entry: bytes, order: str) -> bytes:
    tag = _tiff_number(entry, order)[0]
    return struct.pack(f"{order}HHLHH", tag, 3, 1, 1, 0) if tag == _TIFF_WHITE else entry
