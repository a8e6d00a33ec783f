"""Seeded mutations of the corpus' files: damage that keeps enough of a file to reach its parser."""

import gzip
import random
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from corpus import bodies, pictures, sets, weights
from corpus.cases import JSON, PICTURE_ROUTES, Send, send_body, send_model, send_picture, send_set

Wrap = Callable[[bytes], bytes]
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (b"0", b"-1", b"1e309", b"NaN", b"9223372036854775808", b"1" * 400, b'"a"', b"null", b"[]", b"{}", b"true")


@dataclass(frozen=True)
class Seed:
    """A file to mutate.

    Attributes:
        format: Its name.
        data: The bytes that are mutated.
        send: Makes the request of mutated bytes.
        is_text: True for JSON and forms, whose numbers and signs are mutated as texts.
        packs: True for a data set, which is packed after its upload.
    """

    format: str
    data: bytes
    send: Callable[[bytes], Send]
    is_text: bool = False
    packs: bool = False


def mutate(data: bytes, chance: random.Random, *, is_text: bool = False) -> bytes:
    """Returns a file with one to four damages."""
    damages = [*_DAMAGES, *(_TEXT_DAMAGES * 3 if is_text else ())]
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(damages)(data, chance)
    return data


def _place(data: bytes, chance: random.Random) -> int:
    """Returns a place in a file; half of them lie in its first 64 bytes, where most formats keep their sizes."""
    return chance.randrange(min(64, len(data)) if chance.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :] if data else data


def _number(data: bytes, chance: random.Random) -> bytes:
    at, code = _place(data, chance), chance.choice(("B", "<H", ">H", "<I", ">I", "<Q"))
    size = struct.calcsize(code)
    number = struct.pack(code, chance.choice(_NUMBERS) & (256**size - 1))
    return data[:at] + number + data[at + size :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _remove(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + data[at + chance.randint(1, 64) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + data[at : at + chance.randint(1, 64)] * chance.choice((2, 10, 1000)) + data[at:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + chance.randbytes(chance.randint(1, 16)) + data[at:]


def _text_number(data: bytes, chance: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?|true|false|null|\"[^\"]*\"", data))
    if not found:
        return data
    at = chance.choice(found)
    return data[: at.start()] + chance.choice(_TEXTS) + data[at.end() :]


def _nest(data: bytes, chance: random.Random) -> bytes:
    at, depth = _place(data, chance), chance.choice((2, 33, 1000))
    return data[:at] + chance.choice((b"[", b"{", b'{"a":')) * depth + data[at:]


_DAMAGES = (_flip, _number, _cut, _remove, _repeat, _insert)
_TEXT_DAMAGES = (_text_number, _nest)


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG whose checksums fit its chunks again, so that their content is read."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if at + 12 + length > len(data):
            break
        content = data[at + 4 : at + 8 + length]
        out += data[at : at + 4] + content + struct.pack(">I", zlib.crc32(content))
        at += 12 + length
    return out + data[at:]


def _picture_seeds() -> list[Seed]:
    found = []
    for number, (name, make) in enumerate(pictures.ACCEPTED.items()):
        fix = with_checksums if "png" in name else bytes

        def send(data: bytes, address: str = PICTURE_ROUTES[number % 3], fix: Wrap = fix) -> Send:
            return send_picture(address, fix(data))

        found.append(Seed(name, make(), send))
    return found


def _send_wrapped(filename: str, wrap: Wrap, data: bytes) -> Send:
    return send_set(filename, wrap(data))


def _send_with_spec(spec: weights.Make | None, data: bytes) -> Send:
    return send_model(data, None if spec is None else spec())


def _set_seeds() -> list[Seed]:
    found = []
    for name, make in sets.ACCEPTED.items():
        found.append(Seed(name, make(), partial(send_set, name), packs=True))
    inner: tuple[tuple[str, str, bytes, Wrap], ...] = (
        ("tar in gzip", "set.tar.gz", sets.tarred(sets.pictures()), lambda data: gzip.compress(data, 1)),
        ("npy in npz", "set.npz", sets.npy(sets.pixels()), lambda data: sets.zipped({"imgs.npy": data})),
        ("png in zip", "set.zip", pictures.ACCEPTED["png-RGB"](),
         lambda data: sets.zipped({**sets.pictures(1), "set/a.png": with_checksums(data)})),
        ("labels in zip", "set.zip", b"file,label\n0.png,1\n1.png,2\n",
         lambda data: sets.zipped({**sets.pictures(2), "labels.csv": data})),
    )  # fmt: skip
    for title, filename, data, wrap in inner:
        found.append(Seed(title, data, partial(_send_wrapped, filename, wrap), packs=True))
    return found


def _model_seeds() -> list[Seed]:
    own = weights.own_files()
    safetensors = own["model.safetensors"]
    end = 8 + int.from_bytes(safetensors[:8], "little")
    described = weights.description(weights_sha256="")
    return [
        *(Seed(f"model {name}", file(), partial(_send_with_spec, spec))
          for name, (file, spec) in weights.ACCEPTED.items()),
        Seed("model.json", described, lambda data: send_model(weights.bundle_of_text(data), None), is_text=True),
        Seed("safetensors header", safetensors[8:end], lambda data: send_model(
            weights.safetensors(data, data=safetensors[end:]), described), is_text=True),
    ]  # fmt: skip


def _body_seeds() -> list[Seed]:
    json_bodies = {
        ("POST", "/models/tiny/decode"): b'{"z": [[0, 1.5, -2, 0.25], [0, 0, 0, 0]]}',
        ("POST", "/train-jobs"): b'{"dataset": "nope", "name": "a", "config": {"beta": 4.0, "seed": 1}, "minutes": 5}',
        ("PUT", "/models/default"): b'{"id": "dsprites"}',
        ("POST", "/datasets/nope/packs"): b'{"image_size": 64, "num_channels": 1}',
    }
    form = bodies.form(bodies.part("model", b"tiny"), bodies.part("z", b"[0, 0, 0, 0]"), bodies.part("steps", b"2"),
                       bodies.part("dimensions", b"0,1"), bodies.part("name", b"a"))  # fmt: skip

    def sender(method: str, path: str) -> Callable[[bytes], Send]:
        return lambda data: send_body(method, path, data, JSON["content-type"])

    return [
        *(Seed(f"json {path}", data, sender(method, path), is_text=True)
          for (method, path), data in json_bodies.items()),
        Seed("form", form, lambda data: send_body("POST", "/traversals", data, bodies.FORM), is_text=True),
    ]  # fmt: skip


def seeds() -> list[Seed]:
    """Returns the files to mutate, one or more of each format that the service reads."""
    return [*_picture_seeds(), *_set_seeds(), *_model_seeds(), *_body_seeds()]
