"""Traversal jobs, from a claim to files in the storage, with a few models kept in memory."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from models.config import ConfigError
from models.files import LoadedModel, load_model
from models.networks import VAE
from training.device import pick_device
from training.memory import keep_freed_memory
from worker.input_errors import fail_for_storage
from worker.jobs.claims import Claim
from worker.jobs.counters import RENDER_SECONDS, RENDERS
from worker.rendering.encoders import decode_png
from worker.rendering.files import dimension_animation, dimension_ends, sheet_makers
from worker.rendering.parts import ANIMATIONS, ENDS, EXTRA_FILES, RENDERER_VERSION, STILL, input_keys, traversal_id
from worker.rendering.rendered import Rendered, Strip
from worker.rendering.request import Pixels, TraversalRequest
from worker.rendering.traversal import render_traversal
from worker.stores.models import ModelRegistry, UnknownModel
from worker.stores.settings import Settings
from worker.stores.storage import NotStored, Storage

WARM_MODELS = 8
"""Number of networks that are kept in memory; each takes about 2 to 10 MB."""
THREADS = 2
"""Number of threads that decode and encode one request."""

_warm: OrderedDict[tuple[str, str], VAE] = OrderedDict()
_warm_lock = threading.Lock()


def load_cached(registry: ModelRegistry, model_id: str, settings: Settings) -> LoadedModel:
    """Loads a model, whose network comes from memory if it was used lately.

    Args:
        registry: The registry.
        model_id: Id of the model.
        settings: The settings, for the device.

    Raises:
        UnknownModel: There is no such model.
        ValueError: The model's files are damaged.
        DeviceError: There is no such device.
    """
    info = registry.info(model_id)
    device = pick_device(settings.device)
    key = (info.weights_sha256, str(device))
    with _warm_lock:
        network = _warm.get(key)
        if network is None:
            network = load_for_rendering(registry.get(model_id)[1], device).network
            _warm[key] = network
        _warm.move_to_end(key)
        while len(_warm) > WARM_MODELS:
            _warm.popitem(last=False)
    return LoadedModel(network, info)


def use_one_thread() -> None:
    """Sets one thread per decoder call, as in a render worker.

    More threads are slower for small networks, and may sum in another order.
    """
    torch.set_num_threads(1)


def load_for_rendering(folder: Path, device: str | torch.device) -> LoadedModel:
    """Loads a model with the renderer's layout of weights; another layout would round differently.

    Args:
        folder: Folder of the model.
        device: Device of the network.

    Raises:
        ValueError: The model's files are damaged.
    """
    # Kept memory and the channels-last layout each halve the decoder's time.
    keep_freed_memory()
    loaded = load_model(folder, device)
    return LoadedModel(loaded.network.to(memory_format=torch.channels_last), loaded.info)


class Stages:
    """The seconds of the stages of one job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measures a block as one stage, if it succeeds."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began

    def amounts(self) -> dict[str, float]:
        """Returns what the stages add to the counters of worker.jobs.counters."""
        numbers = {f"{RENDERS}{stage}": 1.0 for stage in self.seconds}
        return numbers | {f"{RENDER_SECONDS}{stage}": seconds for stage, seconds in self.seconds.items()}


def make_traversal(
    model: LoadedModel,
    images: Sequence[Pixels],
    request: TraversalRequest,
    put: Callable[[str, bytes], None],
    *,
    parts: Collection[str] | None = None,
    stages: Stages | None = None,
) -> dict[str, Any]:
    """Renders a resolved request and passes each file to `put` as soon as it is made.

    Args:
        model: The model.
        images: The images, as render_traversal takes them.
        request: The request.
        put: Called with the name and the content of each file, from several threads.
        parts: The parts to make (worker.rendering.request); None makes all, but of the sheets as WebP and MP4 only that
            of the request's format.
        stages: Takes the time of `frames` (decoding them, and the files of single dimensions) and, where any is
            drawn, of `sheets`.

    Returns:
        The numbers of the result, as JSON types.
    """
    sizes: dict[str, int] = {}
    left_out = [name for format, name in EXTRA_FILES.items() if format != request.format]

    def is_wanted(part: str) -> bool:
        return part not in left_out if parts is None else part in parts

    def made(name: str, data: bytes) -> None:
        put(name, data)
        sizes[name] = len(data)

    def encode(start: Rendered, strip: Strip) -> None:
        if is_wanted(ANIMATIONS):
            made(*dimension_animation(start, strip))
        for name, data in dimension_ends(strip).items() if is_wanted(ENDS) else ():
            made(name, data)

    def make(maker: tuple[str, Callable[[], bytes]]) -> None:
        made(maker[0], maker[1]())

    # The decoder frees the interpreter lock and the encoders seldom do, so each thread does both in turn.
    stages = stages or Stages()
    with ThreadPoolExecutor(THREADS, "renderer") as pool:
        with stages.timed("frames"):
            rendered = render_traversal(model, images, request, on_strip=encode, pool=pool)
        makers = [entry for entry in sheet_makers(rendered).items() if is_wanted(entry[0])]
        draws_sheets = any(name != STILL for name, _ in makers)
        with stages.timed("sheets") if draws_sheets else nullcontext():
            for _ in pool.map(make, makers):
                pass
    return {
        "renderer_version": RENDERER_VERSION,
        "model_sha256": model.info.weights_sha256,
        "files": dict(sorted(sizes.items())),
        **rendered.describe(),
    }


def make_dimensions(model: LoadedModel, images: Sequence[Pixels], request: TraversalRequest) -> dict[int, bytes]:
    """Renders only the GIFs of single dimensions. Returns them by dimension."""
    gifs: dict[int, bytes] = {}

    def encode(start: Rendered, strip: Strip) -> None:
        assert strip.dimension is not None
        gifs[strip.dimension] = dimension_animation(start, strip)[1]

    with ThreadPoolExecutor(THREADS, "renderer") as pool:
        render_traversal(model, images, request, on_strip=encode, pool=pool)
    return gifs


def run_traversal_job(claim: Claim, storage: Storage, registry: ModelRegistry, settings: Settings) -> None:
    """Renders the traversal of a claimed job, writes its files, result.json last, and ends the claim.

    If the traversal is stored already, only the parts that the job names are made.
    """
    job = claim.job.request
    folder = f"traversals/{job['traversal']}"
    is_new = not storage.exists(f"{folder}/result.json")
    stages = Stages()
    try:
        _render_into(folder, job, storage, registry, settings, stages)
    except ConfigError as error:
        claim.fail("invalid_request", str(error))
    except UnknownModel:
        claim.fail("unknown_model", f"There is no model with the id {job['model']}.")
    except _ModelChanged:
        claim.fail("unknown_model", f"The model {job['model']} has changed since the traversal was made.")
    except NotStored as error:
        claim.fail("input_missing", f"The input picture is gone: {error}")
    except OSError as error:
        if is_new:  # No part of the traversal takes room.
            storage.delete(folder)
        fail_for_storage(claim, error, "The traversal could not be stored")
    else:
        claim.store.count(stages.amounts())
        claim.succeed({"traversal": job["traversal"]})


class _ModelChanged(RuntimeError):
    """Files that are made now would not be those of the traversal."""


def _render_into(
    folder: str, job: dict[str, Any], storage: Storage, registry: ModelRegistry, settings: Settings, stages: Stages
) -> None:
    """Renders the traversal of a job's request and writes its files into a folder of the storage."""
    request = TraversalRequest.from_json(job["request"])
    with stages.timed("load"):
        model = load_cached(registry, job["model"], settings)
        images = [decode_png(storage.read_bytes(key)) for key in input_keys(job["traversal"], job["num_images"])]
    before = storage.read_json(f"{folder}/result.json") if storage.exists(f"{folder}/result.json") else None
    parts = job.get("parts")  # A job of an earlier version has none.
    if before and parts is None:
        parts = [EXTRA_FILES[request.format]] if request.format in EXTRA_FILES else None
    elif before and traversal_id(request, model.info, images) != job["traversal"]:
        raise _ModelChanged
    numbers = make_traversal(
        model,
        images,
        request,
        lambda name, data: storage.write_bytes(f"{folder}/{name}", data),
        parts=parts,
        stages=stages,
    )
    if before and not storage.exists(f"{folder}/result.json"):  # It expired meanwhile, and so do these files.
        storage.delete(folder)
        raise NotStored(f"{folder}/result.json")
    if before:
        numbers["files"] = dict(sorted({**before["files"], **numbers["files"]}.items()))
    else:
        storage.write_json(f"{folder}/request.json", {name: value for name, value in job.items() if name != "parts"})
    storage.write_json(f"{folder}/result.json", {"id": job["traversal"], "model": job["model"], **numbers})
