"""Bodies that are no files: JSON of all kinds, and multipart forms as no browser writes them."""

import json
from dataclasses import dataclass

from corpus.pictures import ACCEPTED as PICTURES

FORM = "multipart/form-data; boundary=x"


@dataclass(frozen=True)
class Body:
    """A body, and the status and the code of its answer; the code is empty where it is accepted."""

    name: str
    content: bytes
    status: int = 422
    code: str = "invalid_request"
    method: str = "POST"
    path: str = "/models/tiny/decode"
    content_type: str = "application/json"


def _z(text: str) -> bytes:
    return f'{{"z": {text}}}'.encode()


_ZERO = _z("[0, 0, 0, 0]")

_JSON: tuple[Body, ...] = (
    Body("plain", _ZERO, 200, ""),
    Body("utf-16", _ZERO.decode().encode("utf-16"), 200, ""),
    Body("utf-32", _ZERO.decode().encode("utf-32"), 200, ""),
    Body("duplicate keys", b'{"z": "first", "z": [0, 0, 0, 0]}', 200, ""),
    Body("odd numbers", _z("[-0, 1e-400, 0.1e1, -0.0]"), 200, ""),
    Body("white space", b" \r\n\t" * 1000 + _ZERO + b"\n" * 1000, 200, ""),
    Body("nothing", b""),
    Body("byte order mark", b"\xef\xbb\xbf" + b'{"z": 1}'),
    Body("no utf-8", b'{"z": "\xff"}'),
    Body("overlong utf-8", b'{"z": "\xc0\x80"}'),
    Body("a scalar", b"1"),
    Body("an array", b"[1, 2]"),
    Body("two documents", _ZERO * 2),
    Body("a trailing comma", b'{"z": [0, 0, 0, 0],}'),
    Body("a comment", b'{"z": [0, 0, 0, 0]} // z'),
    Body("a raw line break in a text", b'{"z": "a\nb"}'),
    Body("nul bytes", b'{"z\0": 1}'),
    Body("an escaped nul as a name", b'{"\\u0000": 1}'),
    Body("a lone surrogate", b'{"z": "\\ud800"}'),
    Body("a lone surrogate as a key", b'{"\\udfff": 1}'),
    Body("not a number", _z("[NaN, 0, 0, 0]")),
    Body("infinity", _z("[Infinity, 0, 0, 0]")),
    Body("1e999", _z("[1e999, 0, 0, 0]")),
    Body("2^63", _z(f"[{2**63}, 0, 0, 0]")),
    Body("a number of 5000 digits", _z(f"[{'9' * 5000}, 0, 0, 0]")),
    Body("a text for a number", _z('["0", 0, 0, 0]')),
    Body("true for a number", _z("[true, 0, 0, 0]")),
    Body("32 deep", _z("[" * 31 + "]" * 31)),
    Body("900 deep", _z("[" * 900 + "]" * 900)),
    Body("100000 deep", _z("[" * 100_000 + "]" * 100_000)),
    Body("100000 deep, never closed", b'{"z":' * 100_000),
    Body("a megabyte of lists", _z("[" + "[]," * 349_000 + "0]")),
    Body("a megabyte of keys", json.dumps({f"k{k}": 0 for k in range(80_000)}).encode()),
    Body("a megabyte of wrong numbers", _z("[" + '"",' * 340_000 + '""]')),
    Body("a megabyte of wrong vectors", _z("[" + "[true]," * 149_000 + "[true]]")),
    Body("a key of a megabyte", b'{"' + b"k" * 1_000_000 + b'": 0}'),
    Body("more than a megabyte", b" " * (2**20 + 1), 413, "upload_too_large"),
    Body("gzip", b"\x1f\x8b\x08\0\0\0\0\0"),
    Body("another media type", _ZERO, 415, "unsupported_media_type", content_type="text/plain"),
    Body("a default that is a list", b'{"id": ["tiny"]}', method="PUT", path="/models/default"),
    Body("a name that is an object", b'{"name": {}}', method="PATCH", path="/models/tiny"),
    Body("a name of surrogates", b'{"name": "\\udc00\\ud800"}', method="PATCH", path="/models/tiny"),
    Body("labels of control signs", b'{"dimension_labels": ["a\\u0007", "", "", ""]}', method="PATCH",
         path="/models/tiny"),
    Body("a job with unknown keys", b'{"dataset": "dsprites", "__proto__": {}}', path="/train-jobs"),
    Body("a job with a huge seed", b'{"dataset": "dsprites", "config": {"seed": 1e300}}', path="/train-jobs"),
    Body("a pack of size 1e9", b'{"image_size": 1000000000}', path="/datasets/dsprites/packs"),
    Body("scores that are objects", b'{"metrics": [{}]}', path="/models/tiny/evaluations"),
)  # fmt: skip


def part(name: str, content: bytes, *, more: str = "") -> bytes:
    """Returns a part of a form."""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode("latin-1") + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """Returns a form."""
    return b"".join(parts) + b"--x--\r\n"


_PICTURE = part("image", PICTURES["png-L"](), more='; filename="a.png"')


def _form(name: str, content: bytes, status: int = 422, code: str = "invalid_request", *,
          path: str = "/models/tiny/encode", content_type: str = FORM) -> Body:  # fmt: skip
    return Body(f"form {name}", content, status, code, path=path, content_type=content_type)


_FORMS: tuple[Body, ...] = (
    _form("plain", form(_PICTURE), 200, ""),
    _form("with an epilogue", form(_PICTURE) + b"bye", 200, ""),
    _form("with a preamble", b"hello\r\n" + form(_PICTURE), 400, "bad_request"),
    _form("with a quoted boundary", form(_PICTURE), 200, "", content_type='multipart/form-data; boundary="x"'),
    _form("without a boundary", form(_PICTURE), 400, "bad_request", content_type="multipart/form-data"),
    _form("with another boundary", form(_PICTURE), 400, "bad_request", content_type=f"{FORM}y"),
    _form("with a boundary of 10000", form(_PICTURE), 400, "bad_request", content_type=FORM + "x" * 10_000),
    _form("never closed", _PICTURE),
    _form("cut in a header", b"--x\r\nContent-Disposition: form-da"),
    _form("without parts", form()),
    _form("without bytes", b""),
    _form("with a part without a name", form(b"--x\r\nContent-Type: image/png\r\n\r\na\r\n"), 400, "bad_request"),
    _form("with a header of 100 kB", form(b"--x\r\nA: " + b"a" * 100_000 + b"\r\n\r\na\r\n"), 400, "bad_request"),
    _form("with 1000 headers", form(b"--x\r\n" + b"A: a\r\n" * 1000 + b"\r\na\r\n"), 400, "bad_request"),
    _form("with 1000 fields", form(*[part("a", b"1")] * 1000), 400, "bad_request"),
    _form("with 1000 files", form(*[_PICTURE] * 1000), 400, "bad_request"),
    _form("with two pictures", form(_PICTURE, _PICTURE), 400, "bad_request"),
    _form("with a text for the picture", form(part("image", b"a"))),
    _form("with a field of a megabyte", form(part("image", b"a" * 2**20)), 400, "bad_request"),
    _form("with a nul in a name", form(part("image\0", b"a"))),
    _form("with an unknown file", form(part("other", b"a", more='; filename="a.png"'))),
    _form("with a picture in base64", form(part("image", b"iVBORw0KGgo=",
          more='; filename="a.png"\r\nContent-Transfer-Encoding: base64')), 422, "not_an_image"),
    _form("in another charset", form(part("name", "ö".encode("utf-16"))), 400, "bad_request",
          content_type=f"{FORM}; charset=utf-16"),
    _form("in an unknown charset", form(part("name", b"a")), 400, "bad_request", content_type=f"{FORM}; charset=none"),
    _form("in punycode", form(part("name", b"9" * 250_000)), 400, "bad_request",
          content_type=f"{FORM}; charset=punycode"),
    _form("in UTF-8, said so", form(part("name", b"a")), content_type=f"{FORM}; charset=UTF-8"),
    _form("of large texts", form(*[part("name", b"a" * 250_000)] * 40), 400, "bad_request"),
    _form("with lone line feeds", form(_PICTURE).replace(b"\r\n", b"\n"), 400, "bad_request"),
    _form("of fields with a deep z", form(part("model", b"tiny"), part("z", b"[" * 100_000)), path="/traversals"),
    _form("of fields with a z of lists", form(part("model", b"tiny"), part("z", b"[[0, 0, 0, 0]]")),
          path="/traversals"),
    _form("of fields with bytes", form(part("model", b"\xff\xfe"), part("seed", b"1")), 404, "unknown_model",
          path="/traversals"),
    _form("of fields that repeat", form(part("seed", b"1"), part("seed", b"2")), path="/traversals"),
    _form("as urlencoded text of signs", b"%" * 60_000, path="/traversals",
          content_type="application/x-www-form-urlencoded"),
    _form("as urlencoded text of surrogates", b"model=%ed%a0%80&seed=1", 404, "unknown_model", path="/traversals",
          content_type="application/x-www-form-urlencoded"),
    _form("as a mixed message", form(_PICTURE), 415, "unsupported_media_type",
          content_type="multipart/mixed; boundary=x"),
)  # fmt: skip

CASES = (*_JSON, *_FORMS)
