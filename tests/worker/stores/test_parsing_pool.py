"""Foreign files are read in children that may crash, hang or grow, while the parent goes on."""

import io
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from datasets_support import as_tar, picture
from hostile_files import crowded_zip, jpeg_of_many_scans, lossless_webp
from PIL import Image

from training.data.datasets import ArrayFile, BuiltIn, DatasetError, ImageFolder, Limits, ZipFile
from training.data.images import ImageError, Preprocessing, load_image
from worker.stores import parsing_pool
from worker.stores.children import ParsingChild
from worker.stores.parsing_pool import ParsingPool, check_zip_in_child, count_images_in_child, num_channels_in_child

PREPROCESSING = Preprocessing(image_size=64, num_channels=3)
PIXELS = 50_000_000


def png(size: tuple[int, int] = (300, 200)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture
def pool() -> ParsingPool:
    return ParsingPool(2)


def test_a_child_decodes_as_this_process_does_and_stays(pool: ParsingPool) -> None:
    pids = []
    for width in (100, 101, 102):
        data = png((width, 90))
        assert np.array_equal(pool.load_image(data, PREPROCESSING, max_pixels=PIXELS), load_image(data, PREPROCESSING))
        pids += pool.idle_pids
    assert len(pids) == 3
    assert len(set(pids)) == 1
    pool.close()
    assert pool.idle_pids == []


def test_what_is_refused_here_is_refused_there(pool: ParsingPool) -> None:
    for data, max_pixels in (
        (b"", PIXELS),
        (b"no picture", PIXELS),
        (png(), 100),
        (png()[:-2000], PIXELS),
        (lossless_webp(7000), PIXELS),
        (jpeg_of_many_scans(200, 256), PIXELS),
    ):
        with pytest.raises(ImageError) as there:
            pool.load_image(data, PREPROCESSING, max_pixels=max_pixels)
        with pytest.raises(ImageError) as here:
            load_image(data, PREPROCESSING, max_pixels=max_pixels)
        assert (there.value.code, there.value.message) == (here.value.code, here.value.message)
    assert len(pool.idle_pids) == 1


def test_a_picture_that_takes_too_long_is_refused_and_the_next_is_decoded(pool: ParsingPool) -> None:
    hasty = ParsingPool(1, seconds=0.001)
    with pytest.raises(ImageError, match=r"more than 0\.001 s") as refused:
        hasty.load_image(png(), PREPROCESSING, max_pixels=PIXELS)
    assert refused.value.code == "not_an_image"
    assert hasty.idle_pids == []
    hasty._seconds = 60
    assert hasty.load_image(png(), PREPROCESSING, max_pixels=PIXELS).shape == (64, 64, 3)


def test_a_file_that_takes_too_much_processor_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing_pool, "INSPECTION_CPU_SECONDS", 0)
    grey = io.BytesIO()
    Image.effect_noise((3000, 3000), 60).convert("RGB").save(grey, "PNG", compress_level=1)
    for number in range(32):
        (tmp_path / f"{number}.png").write_bytes(grey.getvalue())
    with pytest.raises(DatasetError, match="too much processor time") as refused:
        num_channels_in_child(ImageFolder(tmp_path), Limits())
    assert refused.value.code == "parser_died"


def test_a_picture_that_takes_too_much_memory_is_refused(pool: ParsingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing_pool, "_PICTURE_BYTES", 24 * 2**20)
    with pytest.raises(ImageError) as refused:
        pool.load_image(png((3000, 3000)), PREPROCESSING, max_pixels=PIXELS)
    assert refused.value.code == "image_too_large"
    assert pool.load_image(png(), PREPROCESSING, max_pixels=PIXELS).shape == (64, 64, 3)


def test_a_child_that_died_while_it_waited_is_replaced(pool: ParsingPool) -> None:
    pool.load_image(png(), PREPROCESSING, max_pixels=PIXELS)
    (pid,) = pool.idle_pids
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pool.load_image(png(), PREPROCESSING, max_pixels=PIXELS).shape == (64, 64, 3)
    assert pool.idle_pids != [pid]


def test_a_child_that_crashes_costs_its_picture_alone(pool: ParsingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(child: ParsingChild, *arguments: object, **options: object) -> object:
        os.kill(child.pid, signal.SIGSEGV)
        return ask(child, *arguments, **options)  # type: ignore[arg-type]

    ask = ParsingChild.ask
    with monkeypatch.context() as patch:
        patch.setattr(ParsingChild, "ask", crash)
        with pytest.raises(ImageError, match="SIGSEGV") as refused:
            pool.load_image(png(), PREPROCESSING, max_pixels=PIXELS)
    assert refused.value.code == "not_an_image"
    assert pool.load_image(png(), PREPROCESSING, max_pixels=PIXELS).shape == (64, 64, 3)


def test_pictures_from_many_threads_share_the_children(pool: ParsingPool) -> None:
    data, found = png(), []

    def load() -> None:
        found.append(pool.load_image(data, PREPROCESSING, max_pixels=PIXELS))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = load_image(data, PREPROCESSING)
    assert len(found) == 8
    assert all(np.array_equal(pixels, expected) for pixels in found)
    assert 1 <= len(pool.idle_pids) <= 2


def test_colours_are_looked_for_in_a_child(tmp_path: Path) -> None:
    for name, colour in (("grey", (90, 90, 90)), ("red", (200, 10, 10))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20), colour).save(tmp_path / name / "a.png")
    assert num_channels_in_child(ImageFolder(tmp_path / "grey"), Limits()) == 1
    assert num_channels_in_child(ImageFolder(tmp_path / "red"), Limits()) == 3
    assert num_channels_in_child(BuiltIn("dsprites"), Limits()) == 1
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 8, 3), np.uint8))
    assert num_channels_in_child(ArrayFile(tmp_path / "a.npy"), Limits()) == 1
    with pytest.raises(DatasetError) as missing:
        num_channels_in_child(ArrayFile(tmp_path / "none.npy"), Limits())
    assert missing.value.code == "not_found"


def test_pictures_are_counted_in_a_child_by_names_and_headers(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "nested").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "nested/c.webp", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(b"no picture")
    assert count_images_in_child(ImageFolder(folder), Limits()) == 3
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 8, 3), np.uint8))
    assert count_images_in_child(ArrayFile(tmp_path / "a.npy"), Limits()) == 5
    assert count_images_in_child(BuiltIn("dsprites"), Limits()) == 737_280
    assert count_images_in_child(ImageFolder(tmp_path / "none"), Limits()) is None
    (tmp_path / "damaged.zip").write_bytes(b"no zip")
    assert count_images_in_child(ZipFile(tmp_path / "damaged.zip"), Limits()) is None


def test_a_count_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(parsing_pool, "COUNTING_SECONDS", 0.0001)
    assert count_images_in_child(ImageFolder(tmp_path), Limits()) is None


def test_a_count_for_which_too_many_wait_is_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    taken = threading.BoundedSemaphore(1)
    monkeypatch.setattr(parsing_pool, "_to_count", taken)
    with taken:
        assert count_images_in_child(ImageFolder(tmp_path), Limits()) is None
    assert count_images_in_child(ImageFolder(tmp_path), Limits()) == 1


def test_a_damaged_hdf5_kills_its_child_alone() -> None:
    path = Path(os.environ.get("TEST_DATA", "/nowhere")) / "field-cases" / "damaged.h5"
    if not path.is_file():
        pytest.skip("TEST_DATA has no field-cases/damaged.h5")
    pytest.importorskip("h5py")
    with pytest.raises(DatasetError, match="SIGSEGV") as refused:
        num_channels_in_child(ArrayFile(path), Limits())
    assert refused.value.code == "parser_died"


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_upload_is_checked_under_the_clients_name(tmp_path: Path, suffix: str) -> None:
    upload = as_tar(tmp_path, {"a.png": picture(1)}, suffix=suffix).path.rename(tmp_path / "upload-7f3a")
    check_zip_in_child(upload, Limits(), name=f"set{suffix}")
    for name in (None, "set.zip"):
        with pytest.raises(DatasetError) as refused:
            check_zip_in_child(upload, Limits(), name=name)
        assert refused.value.code == "not_a_zip"


def test_a_zip_is_checked_in_a_child(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(crowded_zip(5000))
    with pytest.raises(DatasetError) as refused:
        check_zip_in_child(path, Limits(max_files=1000))
    assert refused.value.code == "too_many_files"
