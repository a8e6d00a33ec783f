"""The decoder in the browser computes what torch computes, by WebAssembly and by its twin in JavaScript."""

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from api_support import Service, add_model
from page_support import Visitor
from PIL import Image

from models.files import load_model
from models.info import PRETRAINED, Preprocessing
from models.posteriors import Categorical
from training.data.images import preprocess
from worker.stores.storage import LocalStorage

pytestmark = pytest.mark.browser

DECODER = Path(__file__).parents[3] / "app" / "web" / "js" / "decoder"
LOAD = """async ({path, kernel}) => {
  const base = document.querySelector("script[type=module]").src.replace("main.js", "decoder/");
  const [{ readWeights }, { Network }, { javascriptKernel }, { encode }, resize] = await Promise.all(
    ["weights.js", "network.js", "twin.js", "posterior.js", "resize.js"].map((name) => import(base + name)));
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const module = kernel ? await WebAssembly.compile(bytes(kernel)) : javascriptKernel;
  const { network, layers } = readWeights(await (await fetch(path)).arrayBuffer());
  Object.assign(window, { net: new Network(network, layers, module), encode, resize, bytes });
}"""
DECODE = "(z) => Array.from(net.logits(z))"
ENCODE = "(pixels) => { const p = encode(net, Float32Array.from(pixels)); return [...p.mean, ...p.logVariance]; }"
SHOWN = "[...document.querySelector('#picture').getContext('2d').getImageData(0, 0, 64, 64).data]"
PIXELS = "(z) => Array.from(net.decode(z).data)"


def _kernel(path: Path = DECODER / "kernel.wasm") -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _load(visitor: Visitor, model: str, kernel: str | None, query: str = "precision=float32&encoder=true") -> Any:
    page = visitor().open()
    page.evaluate(LOAD, {"path": f"/models/{model}/web?{query}", "kernel": kernel})
    return page


@pytest.fixture(scope="module")
def categorical(site: Service) -> Path:
    """The folder of a model with categorical latents, whose logits are no multiple of the kernel's width."""
    storage = LocalStorage(site.settings.home)
    add_model(storage, "categorical", num_channels=3, num_categories=7, latent_dim=5)
    return storage.path("models/categorical")


@pytest.mark.parametrize("model", ["chairs", "dsprites", "categorical"])
@pytest.mark.parametrize("kernel", [_kernel(), None], ids=["wasm", "javascript"])
def test_pixels_and_posteriors_are_those_of_torch(
    visitor: Visitor, categorical: Path, model: str, kernel: str | None
) -> None:
    loaded = load_model(categorical if model == "categorical" else PRETRAINED / model)
    shape = loaded.info.network
    side = shape.image_size
    torch.manual_seed(1)
    latents, images = torch.randn(3, shape.latent_dim), torch.rand(3, shape.num_channels, side, side)
    page = _load(visitor, model, kernel)
    with torch.no_grad():
        expected = loaded.network.decode(latents).permute(0, 2, 3, 1).numpy()
        posteriors = torch.cat(loaded.network.encode(images), 1).numpy()
    for z, image, pixels, posterior in zip(latents, images, expected, posteriors, strict=True):
        logits = np.array(page.evaluate(DECODE, z.tolist())).reshape(side, side, 4)[:, :, : shape.num_channels]
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), pixels, atol=1e-4)
        found = page.evaluate(ENCODE, image.permute(1, 2, 0).flatten().tolist())
        np.testing.assert_allclose(found, posterior, atol=1e-4)


def test_a_posterior_on_a_grid_is_that_of_torch(visitor: Visitor) -> None:
    logits = 5 * torch.randn(1, 3, 7, generator=torch.Generator().manual_seed(0))
    logits[0, 0, 2] = 300
    expected = Categorical(logits)
    found = (
        visitor()
        .open()
        .evaluate(
            """async (logits) => {
          const base = document.querySelector("script[type=module]").src.replace("main.js", "decoder/");
          const { categoricalPosterior } = await import(base + "posterior.js");
          const { mean, logVariance, kl } = categoricalPosterior(Float32Array.from(logits), 7);
          return [...mean, ...logVariance, kl];
        }""",
            logits.flatten().tolist(),
        )
    )
    numbers = torch.cat([expected.mean[0], expected.log_variance[0], expected.kl().sum()[None]])
    np.testing.assert_allclose(found, numbers, atol=1e-4)


@pytest.mark.parametrize("model", ["chairs", "dsprites"])
def test_float16_weights_move_almost_no_byte_by_more_than_one(visitor: Visitor, model: str) -> None:
    loaded = load_model(PRETRAINED / model)
    torch.manual_seed(2)
    latents = torch.randn(8, loaded.info.network.latent_dim)
    page = _load(visitor, model, _kernel(), "precision=float16")
    with torch.no_grad():
        expected = (255 * loaded.network.decode(latents)).round().permute(0, 2, 3, 1).numpy()
    found = np.array([page.evaluate(PIXELS, z.tolist()) for z in latents]).reshape(8, 64, 64, 4)
    assert (found[..., 3] == 255).all()
    assert np.mean(np.abs(found[..., :3] - expected) <= 1) >= 0.999


def test_the_kept_kernel_is_what_the_source_compiles_to(visitor: Visitor, tmp_path: Path) -> None:
    if shutil.which("clang") is None or not (shutil.which("wasm-ld") or shutil.which("wasm-ld-14")):
        pytest.skip("needs clang and lld")
    shutil.copytree(DECODER, tmp_path / "decoder")
    subprocess.run(["sh", tmp_path / "decoder" / "kernel.sh"], check=True)
    z = np.linspace(-2, 2, 12).tolist()
    kept = _load(visitor, "chairs", _kernel()).evaluate(DECODE, z)
    anew = _load(visitor, "chairs", _kernel(tmp_path / "decoder" / "kernel.wasm")).evaluate(DECODE, z)
    np.testing.assert_allclose(anew, kept, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((178, 218), {}),
        ((178, 218), {"crop_size": 140}),
        ((70, 50), {}),
        ((100, 300), {"crop": "none", "num_channels": 1}),
        ((200, 60), {"crop": "none"}),
        ((64, 64), {"num_channels": 1}),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_are_cropped_and_resized_as_by_the_service(
    visitor: Visitor, size: tuple[int, int], settings: dict[str, Any], mode: str
) -> None:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, len(mode)), np.uint8)
    image = Image.fromarray(coarse, mode).resize(size, Image.Resampling.BICUBIC)
    preprocessing = Preprocessing(**{"image_size": 64, "num_channels": 3, "crop": "center", **settings})
    white = Image.new("RGBA", size, "white")
    plain = image if mode == "RGB" else Image.alpha_composite(white, image).convert("RGB")
    page = _load(visitor, "chairs", _kernel())
    found = page.evaluate(
        """({data, width, height, preprocessing}) => {
          const image = new ImageData(Uint8ClampedArray.from(bytes(data)), width, height);
          return Array.from(resize.toInput(image, preprocessing), (value) => Math.round(255 * value));
        }""",
        {
            "data": base64.b64encode(image.convert("RGBA").tobytes()).decode(),
            "width": size[0],
            "height": size[1],
            "preprocessing": preprocessing.model_dump(),
        },
    )
    expected = preprocess(plain, preprocessing).flatten().astype(int)
    # Pillow converts to grey before it resizes, and composes with integers: a level may differ.
    assert np.abs(np.array(found) - expected).max() <= (1 if mode == "RGB" else 2)
    assert np.mean(np.array(found) == expected) > 0.8


def test_a_browser_that_does_not_compile_the_kernel_loads_its_twin(visitor: Visitor) -> None:
    tab = visitor(reduced_motion="reduce")
    tab.page.add_init_script("WebAssembly.compileStreaming = () => Promise.reject(new Error('no SIMD'))")
    page = tab.open("/explore?model=chairs", ready=True)
    pixels = page.evaluate(SHOWN)
    assert any(address.endswith("/decoder/twin.js") for address in tab.requests)
    usual = visitor(reduced_motion="reduce")
    shown = usual.open("/explore?model=chairs", ready=True)
    assert np.abs(np.array(pixels) - shown.evaluate(SHOWN)).max() <= 1
    assert not any(address.endswith("/decoder/twin.js") for address in usual.requests)


def test_filmstrips_come_from_a_worker_and_the_latest_request_wins(visitor: Visitor) -> None:
    page = visitor().open()
    counts = page.evaluate("""async () => {
      const base = document.querySelector("script[type=module]").src.replace("main.js", "decoder/");
      const { Filmstrips } = await import(base + "filmstrips.js");
      const strips = new Filmstrips("models/chairs/web");
      const z = new Float32Array(12);
      const all = await Promise.all([0, 1, 2, 3].map((k) => strips.render(z, [k, 5], [-3, 0, 3])));
      const missing = await new Filmstrips("models/none/web").render(z, [0], [0]);
      return [all.map((rows) => rows && rows.map((row) => row.length)), missing];
    }""")
    assert counts == [[[3, 3], None, None, [3, 3]], None]


def test_the_weights_of_a_model_of_64_pixels_are_small(visitor: Visitor) -> None:
    page = visitor().open()
    sizes = page.evaluate(
        "Promise.all(['chairs', 'dsprites'].map(async (m) => (await (await fetch(`models/${m}/web`)).blob()).size))"
    )
    assert max(sizes) <= 600_000
