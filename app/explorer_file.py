"""The page in one file: a model's sliders in HTML that opens from disk and needs no network.

Browsers refuse module imports and `fetch` on pages from disk, so the modules of app/web are joined into one script. A
Content-Security-Policy in the file names the digests of its script and its styles, and allows no connection at all.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from string import Template

from models.info import WEIGHTS_FILE, ModelInfo
from models.web_weights import Part, read_tensors, web_weights

WEB = Path(__file__).parent / "web"
MAIN = WEB / "js" / "takeaway" / "main.js"
STYLES = ("page.css", "explore.css", "takeaway.css")

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";$', re.MULTILINE)
_PASSED_ON = re.compile(r'^export \{([^}]*)\} from "([^"]+)";$', re.MULTILINE)
_EXPORTED = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
_EXPORT_LIST = re.compile(r"export\s?\{([^}]*)\};?\s*$")
_STYLE_IMPORT = re.compile(r"^@import .*$", re.MULTILINE)

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<div id="page"><p class="boot">Loading…</p></div>
<noscript>This page needs JavaScript.</noscript>
<script type="application/json" id="model">$model</script>
<script type="application/octet-stream" id="weights">$weights</script>
<script type="application/wasm" id="kernel">$kernel</script>
<script>$script</script>
</body>
</html>
""")


def explorer_file(info: ModelInfo, folder: Path, *, encoder: bool = True) -> bytes:
    """Returns the HTML file of a model.

    Args:
        info: The model's description.
        folder: The model's folder, with its weights.
        encoder: Whether the encoder comes along, so that the visitor's own picture can be shown; it doubles the size.
    """
    parts: tuple[Part, ...] = ("decoder", "encoder") if encoder else ("decoder",)
    weights = web_weights(read_tensors((folder / WEIGHTS_FILE).read_bytes()), info.network, parts)
    style = "\n".join(_STYLE_IMPORT.sub("", (WEB / "css" / name).read_text("utf-8")) for name in STYLES)
    script = joined_modules(MAIN)
    page = _PAGE.substitute(
        policy=_policy(script, style),
        title=_escaped(f"{info.name} · β-VAE"),
        style=style,
        model=json.dumps(_description(info)).replace("<", "\\u003c"),
        weights=_base64(weights),
        kernel=_base64((WEB / "js" / "decoder" / "kernel.wasm").read_bytes()),
        script=script,
    )
    return page.encode()


def policy_of(page: bytes) -> str:
    """Returns the Content-Security-Policy that a page made by `explorer_file` states in its head."""
    found = re.search(rb'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert found is not None
    return found[1].decode()


def joined_modules(main: Path) -> str:
    """Returns one classic script of a module and all that it imports, each once and after what it needs.

    Imports and exports must name what they exchange, one statement a module, as those of app/web do.
    """
    joined: dict[Path, str] = {}
    _join(main.resolve(), joined)
    script = '"use strict";\nconst modules = {};\n' + "\n".join(joined.values())
    # The HTML parser would end the script at such a tag inside a string.
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _join(path: Path, joined: dict[Path, str]) -> None:
    source = path.read_text("utf-8")
    names: list[str] = []

    def dependency(match: re.Match[str]) -> str:
        target = (path.parent / match[2]).resolve()
        if target not in joined:
            _join(target, joined)
        return _key(target)

    def imported(match: re.Match[str]) -> str:
        wanted = ", ".join(_renamed(match[1], ": "))
        return f"const {{ {wanted} }} = modules[{dependency(match)}];"

    def passed_on(match: re.Match[str]) -> str:
        origin = dependency(match)
        for name in _names(match[1]):
            before, _, after = name.partition(" as ")
            names.append(f"{after or before}: modules[{origin}].{before}")
        return ""

    def declared(match: re.Match[str]) -> str:
        names.append(match[2])
        return f"{match[1]} {match[2]}"

    def listed(match: re.Match[str]) -> str:
        for name in _names(match[1]):
            before, _, after = name.partition(" as ")
            names.append(f"{after or before}: {before}")
        return ""

    source = _PASSED_ON.sub(passed_on, _IMPORT.sub(imported, source))
    source = _EXPORT_LIST.sub(listed, _EXPORTED.sub(declared, source))
    joined[path] = f"modules[{_key(path)}] = (() => {{\n{source}\nreturn {{ {', '.join(names)} }};\n}})();"


def _key(path: Path) -> str:
    return json.dumps(path.relative_to(WEB.resolve()).as_posix())


def _names(text: str) -> list[str]:
    return [" ".join(name.split()) for name in text.split(",") if name.strip()]


def _renamed(text: str, separator: str) -> list[str]:
    return [name.replace(" as ", separator) for name in _names(text)]


def _policy(script: str, style: str) -> str:
    rules = {
        "default-src": "'none'",
        "script-src": f"'{_digest(script)}' 'wasm-unsafe-eval'",
        "style-src": f"'{_digest(style)}'",
        "img-src": "blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _description(info: ModelInfo) -> dict[str, object]:
    pictures = info.dataset.get("name")
    objective = info.training.get("objective")
    learnt = f" trained on {pictures}" if pictures else ""
    about = f"A β-VAE{learnt}, {info.step:,} steps{f' with the objective {objective}' if objective else ''}."
    return {
        "name": info.name,
        "about": about,
        "likelihood": info.likelihood,
        "familiarity": info.familiarity,
        "network": info.network.model_dump(),
        "preprocessing": info.preprocessing.model_dump(),
        "kl_per_dimension": info.kl_per_dimension,
        "active_dimensions": info.active_dimensions,
        "dimension_labels": info.dimension_labels,
    }
