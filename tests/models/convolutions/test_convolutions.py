"""The compiled convolutions equal torch's up to float32's rounding at every level."""

import ctypes
import logging
import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.convolutions import loader as convolutions

COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
"""The compiler that builds extensions."""
SOURCES = sorted(Path(convolutions.__file__).parent.glob("*.c"))
LEVELS = convolutions.available_levels()
SHAPES = [
    (1, 32, 2, 2, 32),
    (3, 32, 4, 4, 32),
    (33, 32, 4, 4, 64),
    (2, 64, 2, 6, 32),
    (5, 96, 8, 4, 64),
    (2, 32, 32, 32, 32),
    (3, 3, 32, 32, 32),
    (2, 3, 3, 8, 64),
    (5, 1, 16, 16, 32),
]
"""Images, channels of the fine map, height and width of the coarse one and its channels."""


@pytest.fixture(scope="session")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Every level, compiled for this processor, where the compiler makes several short vectors of a long one."""
    if not COMPILER:
        pytest.skip("no C compiler")
    if "avx2" not in LEVELS and platform.machine() not in ("aarch64", "arm64"):
        pytest.skip("this processor has neither AVX2 with FMA nor NEON")
    target = '__attribute__((target("avx2,fma")))' if "avx2" in LEVELS else ""
    library = tmp_path_factory.mktemp("lowered") / "library.so"
    command = [COMPILER, "-O3", "-ffp-contract=fast", "-Wno-psabi", f"-DTARGET={target}", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", library, *SOURCES], check=True)
    return ctypes.CDLL(str(library))


def use_lowered(level: str, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "_library", lambda: library)
    monkeypatch.setattr(convolutions, "_function", convolutions._function.__wrapped__)
    monkeypatch.setattr(convolutions, "level", lambda: level)


@pytest.fixture(params=[f"{level}{kind}" for level in convolutions.LEVELS for kind in ("", "-lowered")])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each level in turn, with its own instructions and lowered to those of this processor."""
    name, _, lowered = request.param.partition("-")
    if lowered:
        use_lowered(name, request.getfixturevalue("lowered"), monkeypatch)
        yield name
        return
    if name not in LEVELS:
        pytest.skip(f"{name} is not compiled, or this processor lacks it")
    with convolutions.use_level(name):
        yield name


def maps_of(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a fine map, a coarse map, and weights between them."""
    torch.manual_seed(0)
    num, fine, height, width, coarse = shape
    weight = torch.randn(coarse, fine, 4, 4) / (4 * fine**0.5)
    return torch.randn(num, fine, 2 * height, 2 * width), torch.randn(num, coarse, height, width), weight


def assert_float32_of(found: Tensor, exact: Tensor) -> None:
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert (found - exact).norm() < 1e-6 * exact.norm(), "in float32 torch's own are 3e-7 away"
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * exact.abs().max().item())


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_directions_and_the_gradient_of_the_weights_equal_torch(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    fine, coarse, weight = (tensor.to(memory_format=memory_format) for tensor in maps_of(shape))
    assert convolutions.fits(fine, weight, transposed=False)
    assert convolutions.fits(coarse, weight, transposed=True)
    exact_weight = weight.double().requires_grad_()
    down = F.conv2d(fine.double(), exact_weight, None, 2, 1)
    up = F.conv_transpose2d(coarse.double(), exact_weight, None, 2, 1)
    assert_float32_of(convolutions.convolution(fine, weight), down)
    assert_float32_of(convolutions.transposed_convolution(coarse, weight), up)
    (exact,) = torch.autograd.grad((down * coarse).sum(), exact_weight)
    for gradient in (
        convolutions.weight_gradient(coarse, fine, weight, transposed=False),
        convolutions.weight_gradient(fine, coarse, weight, transposed=True),
    ):
        assert gradient.stride() == weight.stride()
        assert_float32_of(gradient, exact)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("shape", [SHAPES[2], *SHAPES[-2:]])
def test_a_bias_and_a_relu_equal_torch(shape: tuple[int, ...]) -> None:
    fine, coarse, weight = maps_of(shape)
    bias = torch.randn(2 * len(weight))[::2]
    down = convolutions.convolution(fine, weight, bias, rectify=True)
    assert_float32_of(down, F.conv2d(fine.double(), weight.double(), bias.double(), 2, 1).relu())
    bias = bias[: fine.shape[1]]
    up = convolutions.transposed_convolution(coarse, weight, bias, rectify=True)
    assert_float32_of(up, F.conv_transpose2d(coarse.double(), weight.double(), bias.double(), 2, 1).relu())


@pytest.mark.usefixtures("level")
def test_nan_stays_nan() -> None:
    """A ReLU that turned NaN into 0 would hide that a run has diverged."""
    fine, coarse, weight = maps_of(SHAPES[1])
    fine[1, 3, 2, 2] = coarse[1, 3, 2, 2] = torch.nan
    assert convolutions.convolution(fine, weight, rectify=True)[1].isnan().any()
    assert convolutions.transposed_convolution(coarse, weight, rectify=True)[1].isnan().any()


@pytest.mark.usefixtures("level")
def test_an_image_comes_out_the_same_in_every_batch() -> None:
    fine, coarse, weight = maps_of(SHAPES[2])
    for function, images in ((convolutions.convolution, fine), (convolutions.transposed_convolution, coarse)):
        assert torch.equal(function(images, weight)[7:9], function(images[7:9], weight))


@pytest.mark.usefixtures("level")
def test_unsupported_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fine, _, weight = maps_of(SHAPES[1])
    assert convolutions.fits(fine, weight, transposed=False)
    for images, kernel in (
        (fine.double(), weight.double()),
        (fine[:0], weight),
        (fine[:, :, :6], weight),
        (fine[:, :3], weight[:, :3]),
        (fine, weight[:16]),
        # torch refuses arguments that no convolution takes, and nothing is read out of bounds.
        (fine[:, :1].expand(-1, 64, -1, -1), weight),
        (fine[:, :1], weight[:, :3]),
        (fine, weight.double()),
        (fine.to("meta"), weight),
        (fine[:, :, :0], weight),
    ):
        assert not convolutions.fits(images, kernel, transposed=False)
    assert not convolutions.fits(fine[:, :, :0], weight, transposed=True)
    assert not convolutions.fits(fine[:, :16], weight, transposed=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not convolutions.fits(fine, weight, transposed=False)


@pytest.mark.usefixtures("level")
def test_another_default_type_changes_nothing() -> None:
    fine, _, weight = maps_of(SHAPES[1])
    expected = convolutions.convolution(fine, weight)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(convolutions.convolution(fine, weight), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", convolutions.LEVELS)
def test_every_level_computes_the_same_bits(
    name: str, shape: tuple[int, ...], lowered: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine, coarse, weight = maps_of(shape)

    def results() -> tuple[Tensor, ...]:
        return (
            convolutions.convolution(fine, weight),
            convolutions.transposed_convolution(coarse, weight),
            convolutions.weight_gradient(coarse, fine, weight, transposed=False),
        )

    found = []
    for available in LEVELS:
        with convolutions.use_level(available):
            found.append(results())
    use_lowered(name, lowered, monkeypatch)
    expected = results()
    assert found
    assert all(torch.equal(one, other) for each in found for one, other in zip(each, expected, strict=True))


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or platform.machine() != "x86_64", reason="not Linux on x86-64")
@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_the_best_level_of_the_processor_is_chosen() -> None:
    flags = set(re.search(r"^flags.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0].split())  # type: ignore[index]
    needed = {"avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}, "avx2": {"avx2", "fma"}}
    assert [name for name, names in needed.items() if names <= flags] == list(LEVELS)
    assert convolutions.level() == next(iter(LEVELS), None)


def test_a_level_is_used_within_its_block_alone() -> None:
    fine, _, weight = maps_of(SHAPES[1])
    before = convolutions.level()
    with convolutions.use_level(None):
        assert convolutions.level() is None
        assert not convolutions.fits(fine, weight, transposed=False)
        assert convolutions.describe().startswith("torch's")
    assert convolutions.level() == before
    with pytest.raises(ValueError, match="'avx1024' is not available"), convolutions.use_level("avx1024"):
        pass


def test_the_log_line_says_which_convolutions_train_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "level", lambda: "avx2")
    assert convolutions.describe() == "compiled (avx2)"
    monkeypatch.setattr(convolutions, "level", lambda: None)
    monkeypatch.setattr(convolutions, "_library", lambda: ctypes.CDLL(None))
    assert "none is compiled for this processor" in convolutions.describe()
    monkeypatch.setattr(convolutions, "_library", lambda: None)
    assert "install a C compiler" in convolutions.describe()
    assert "\n" not in convolutions.describe()


@pytest.mark.parametrize(
    "content", ["", "int unrelated(void) { return 1; }", "int convolutions_interface(void) { return 0; }"]
)
def test_a_foreign_library_is_not_used(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = tmp_path / "library.so"
    library.touch()
    if content:
        if not COMPILER:
            pytest.skip("no C compiler")
        (tmp_path / "library.c").write_text(content)
        command = [COMPILER, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "library.c")]
        subprocess.run(command, check=True)
    monkeypatch.setattr(convolutions, "find_spec", lambda name: ModuleSpec(name, None, origin=str(library)))
    with caplog.at_level(logging.WARNING):
        assert convolutions._library.__wrapped__() is None
    assert [record.message.split(":")[0] for record in caplog.records] == ["the compiled convolutions do not load"]


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_they_are_compiled_if_there_is_a_compiler() -> None:
    assert find_spec(convolutions.MODULE) is not None
