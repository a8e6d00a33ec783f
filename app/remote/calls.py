"""The calls of the client, each written once as a coroutine over a transport."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from app.remote.answers import Answer, read_answer, to_image
from app.remote.errors import PASSING, ServiceError
from app.remote.events import JobEvent, polled_event, progress_bar, read_events
from app.remote.options import SweepOptions, TrainingOptions
from app.remote.transports import Request, Transport
from app.remote.uploads import Picture, form_json, form_text, name_of, open_upload, picture_bytes
from app.schemas import (
    Comparison,
    Dataset,
    DatasetList,
    Decoded,
    Encoded,
    Model,
    ModelList,
    ModelSummary,
    Reconstructed,
    TrainJob,
    TrainJobList,
    Traversal,
)
from app.sweep_schemas import Sweep

Page = TypeVar("Page", DatasetList, ModelList, TrainJobList)

PAGE_SIZE = 200
"""Number of entries of a list that are asked for at once."""
POLL_SECONDS = 2.0
MAX_ROUNDS_AWAY = 60
"""Number of times, POLL_SECONDS apart, that a service which was there and is away is asked again."""
FINISHED = ("succeeded", "failed", "cancelled")
_PATIENT = {"Prefer": "wait=60"}


class Calls:
    """The calls of a service; each raises a ServiceError where the service refuses it or is away."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def models(self) -> list[ModelSummary]:
        """Returns all models: those that ship first, then the newest first.

        `model` has the measurements of each dimension, which the list leaves out.
        """
        return [model async for page in self._pages(ModelList, "/models") for model in page.models]

    async def model(self, model: str) -> Model:
        """Returns a model."""
        return await self._get(Model, f"/models/{_quoted(model)}")

    async def download_model(
        self, model: str, path: str | os.PathLike[str], *, format: Literal["bundle", "onnx", "card"] = "bundle"
    ) -> Path:
        """Downloads a model into a file, and returns the file's path.

        Args:
            model: The model.
            path: The file.
            format: bundle (a zip of safetensors and JSON, which can be imported), onnx (a zip) or card (Markdown).
        """
        request = Request("GET", f"/models/{_quoted(model)}/export", {"params": {"format": format}}, _PATIENT)
        response, target = await self._transport.send(request), Path(path).expanduser()
        await self._transport.work(lambda: target.write_bytes(response.content))
        return target

    async def encode(self, image: Picture, *, model: str) -> Encoded:
        """Returns the posterior of a picture: mean and log-variance, KL per dimension, reconstruction loss in nats."""
        return await self._image_call(Encoded, image, model, "encode")

    async def reconstruct(self, image: Picture, *, model: str) -> Image.Image:
        """Returns a picture as the model reconstructs it."""
        return to_image((await self._image_call(Reconstructed, image, model, "reconstruct")).image)

    async def decode(self, z: ArrayLike, *, model: str) -> list[Image.Image]:
        """Returns the pictures of latent vectors.

        Args:
            z: One vector (D,), or several (N, D).
            model: The model.
        """
        headers = {**_PATIENT, "Accept": "application/json"}
        latents = np.atleast_2d(np.asarray(z, np.float64)).tolist()
        request = Request("POST", f"/models/{_quoted(model)}/decode", {"json": {"z": latents}}, headers)
        return [to_image(pixels) for pixels in (await self._ask(Decoded, request)).images]

    async def traverse(
        self,
        /,
        image: Picture | None = None,
        *,
        model: str = "",
        format: Literal["gif", "webp", "mp4", "png", "zip"] = "gif",
        image2: Picture | None = None,
        **options: object,
    ) -> bytes:
        """Returns a traversal as the bytes of a file.

        Args:
            image: The picture to start from; None where `z` or `seed` is the start.
            model: The model; empty: the default one.
            format: gif, webp and mp4 are the moving sheet, png the still one, zip a GIF for each dimension.
            image2: A second picture, to which the traversal is the path.
            **options: Options of a traversal, such as dimensions, steps, scale, z and z2.
        """
        return (await self._traverse(image, image2, {"model": model, "format": format, **options})).content

    async def traversal(
        self, /, image: Picture | None = None, *, model: str = "", image2: Picture | None = None, **options: object
    ) -> Traversal:
        """Returns the numbers of a traversal and the addresses of its files.

        Args:
            image: The picture to start from; None where `z` or `seed` is the start.
            model: The model; empty: the default one.
            image2: A second picture, to which the traversal is the path.
            **options: Options of a traversal, such as dimensions, steps, scale, z and z2.
        """
        return read_answer(
            Traversal, await self._traverse(image, image2, {"model": model, "format": "json", **options})
        )

    async def compare(self, first: str, second: str) -> Comparison:
        """Returns two models compared: losses, the aligned dimensions, and UDR."""
        params = {"models": f"{first},{second}"}
        return await self._ask(Comparison, Request("GET", "/models/compare", {"params": params}, _PATIENT))

    async def compare_picture(self, image: Picture, first: str, second: str) -> bytes:
        """Returns a PNG of a picture through two models, with their aligned dimensions side by side."""
        data = await self._transport.work(partial(picture_bytes, image))
        options = {"params": {"models": f"{first},{second}"}, "files": {"image": ("image", data)}}
        return (await self._transport.send(Request("POST", "/models/compare", options, _PATIENT))).content

    async def datasets(self) -> list[Dataset]:
        """Returns all data sets."""
        return [one async for page in self._pages(DatasetList, "/datasets") for one in page.datasets]

    async def upload(
        self, source: str | os.PathLike[str], *, name: str = "", layout: str = "auto", stride: int = 1
    ) -> Dataset:
        """Uploads a data set.

        Args:
            source: A folder, whose files are zipped, or a .zip, .npz, .npy or .h5 file.
            name: Its name; empty: that of the folder or file.
            layout: How its files are laid out; auto: as their names say.
            stride: Only every n-th frame of videos and animations is used.

        Raises:
            OSError: The folder or file cannot be read.
        """
        path = Path(source).expanduser()
        response = await self._upload(
            f"/datasets?layout={layout}&stride={stride}", path, {"name": name or name_of(path)}
        )
        return read_answer(Dataset, response)

    async def train(
        self, source: str | os.PathLike[str], *, progress: bool = True, **options: Unpack[TrainingOptions]
    ) -> Model:
        """Trains a model, waits until it is done, and returns it.

        Args:
            source: The id of a data set of the service, or a folder or file of this machine, which is uploaded.
            progress: True shows a progress bar on standard error.
            **options: name, preset, minutes, config, from_model and evaluate.

        Raises:
            OSError: The folder or file cannot be read.
            ServiceError: The training failed or was cancelled, too.
        """
        job = await self.wait((await self.start_training(source, **options)).id, progress=progress)
        return await self.model(job.model or "")

    async def start_training(self, source: str | os.PathLike[str], **options: Unpack[TrainingOptions]) -> TrainJob:
        """Starts a training and returns its job at once; the arguments are those of `train`."""
        body: dict[str, Any] = {"from" if name == "from_model" else name: value for name, value in options.items()}
        path = await self._local_path(source)
        if path is None:
            return await self._ask(TrainJob, Request("POST", "/train-jobs", {"json": {**body, "dataset": str(source)}}))
        body.setdefault("name", name_of(path))
        return read_answer(TrainJob, await self._upload("/train-jobs", path, body))

    async def jobs(self, *, status: str | None = None) -> list[TrainJob]:
        """Returns all trainings, the newest first; with `status`, only those in this state."""
        params = {"status": status} if status else {}
        return [job async for page in self._pages(TrainJobList, "/train-jobs", **params) for job in page.jobs]

    async def job(self, job: str) -> TrainJob:
        """Returns a training by the id of its job."""
        return await self._get(TrainJob, f"/train-jobs/{_quoted(job)}")

    async def finish(self, job: str) -> TrainJob:
        """Ends a training early: it cools down and keeps its model."""
        return await self._act(job, "finish")

    async def cancel(self, job: str) -> TrainJob:
        """Stops a training."""
        return await self._act(job, "cancel")

    async def pause(self, job: str) -> TrainJob:
        """Stops a training after a checkpoint, until it is resumed."""
        return await self._act(job, "pause")

    async def resume(self, job: str) -> TrainJob:
        """Requeues a paused training, which goes on from its checkpoint."""
        return await self._act(job, "resume")

    async def retry(self, job: str) -> TrainJob:
        """Requeues a failed or cancelled training."""
        return await self._act(job, "retry")

    async def wait(self, job: str, *, progress: bool = True) -> TrainJob:
        """Waits until a training is done, and returns its job.

        Args:
            job: Id of the job.
            progress: True shows a progress bar on standard error.

        Raises:
            ServiceError: The training failed, with the code of its error, or was cancelled (cancelled).
        """
        name = (await self.job(job)).name
        with progress_bar(name, is_shown=progress) as show:
            async for event in self.events(job):
                show(event)
        ended = await self.job(job)
        if ended.error is not None and ended.status == "failed":
            raise ServiceError(ended.error.code, ended.error.message)
        if ended.status == "cancelled":
            raise ServiceError("cancelled", f"The training {ended.name} ({job}) was cancelled.")
        return ended

    async def sweep(self, dataset: str, **options: Unpack[SweepOptions]) -> Sweep:
        """Trains a grid or a list of settings, waits until the models are compared, and returns the sweep.

        Args:
            dataset: The id of a data set of the service.
            **options: name, grid or members, preset, config, minutes, evaluate, max_running and make_default.
        """
        sweep = await self.start_sweep(dataset, **options)
        while sweep.status not in FINISHED:
            await self._transport.sleep(POLL_SECONDS)
            sweep = await self.sweep_of(sweep.id)
        return sweep

    async def start_sweep(self, dataset: str, **options: Unpack[SweepOptions]) -> Sweep:
        """Starts a sweep and returns it at once; the arguments are those of `sweep`."""
        return await self._ask(Sweep, Request("POST", "/sweeps", {"json": {**options, "dataset": dataset}}))

    async def sweep_of(self, sweep: str) -> Sweep:
        """Returns a sweep by its id or its name."""
        return await self._get(Sweep, f"/sweeps/{_quoted(sweep)}")

    async def events(self, job: str, *, after: str = "") -> AsyncGenerator[JobEvent]:
        """Yields the events of a training until it ends; a connection that breaks is made anew.

        While the service has no event stream to give, the job's state is asked for every few seconds instead.

        Args:
            job: Id of the job.
            after: Id of the event after which to begin; empty begins with the first.

        Raises:
            ServiceError: There is no such job, or the service has been away for minutes.
        """
        rounds_away = MAX_ROUNDS_AWAY  # A service that was never there is not waited for.
        was_finished = False
        while True:
            num_events, is_whole = 0, True
            try:
                async with aclosing(self._stream(job, after)) as stream:
                    async for event in stream:
                        after, rounds_away, num_events = event.id, 0, num_events + 1
                        yield event
            except ServiceError as error:
                _raise_unless_passing(error)
                is_whole = False
            state = await self._state(job, may_be_away=rounds_away < MAX_ROUNDS_AWAY)
            if state is None:
                rounds_away += 1
            else:
                rounds_away, is_finished = 0, state.status in FINISHED
                if is_finished and (is_whole or (was_finished and not num_events)):
                    return
                was_finished = is_finished  # The rest of a log that broke off is asked for once more.
                if not is_whole and not num_events:
                    yield polled_event(state)
            await self._transport.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """Closes the connections to the service."""
        await self._transport.close()

    async def _stream(self, job: str, after: str) -> AsyncGenerator[JobEvent]:
        headers = {"Last-Event-ID": after} if after else {}
        lines = self._transport.lines(Request("GET", f"/train-jobs/{_quoted(job)}/events", {}, headers))
        async with aclosing(lines), aclosing(read_events(lines)) as events:
            async for event in events:
                yield event

    async def _state(self, job: str, *, may_be_away: bool) -> TrainJob | None:
        """Returns a job, or None if the service does not answer and may be away."""
        try:
            return await self.job(job)
        except ServiceError as error:
            _raise_unless_passing(error)
            if not may_be_away:
                raise
            return None

    async def _act(self, job: str, action: str) -> TrainJob:
        return await self._ask(TrainJob, Request("POST", f"/train-jobs/{_quoted(job)}/{action}"))

    async def _get(self, kind: type[Answer], path: str) -> Answer:
        return await self._ask(kind, Request("GET", path))

    async def _ask(self, kind: type[Answer], request: Request) -> Answer:
        return read_answer(kind, await self._transport.send(request))

    async def _image_call(self, kind: type[Answer], image: Picture, model: str, call: str) -> Answer:
        data = await self._transport.work(partial(picture_bytes, image))
        headers = {**_PATIENT, "Accept": "application/json"}
        request = Request("POST", f"/models/{_quoted(model)}/{call}", {"files": {"image": ("image", data)}}, headers)
        return await self._ask(kind, request)

    async def _traverse(
        self, image: Picture | None, image2: Picture | None, options: Mapping[str, object]
    ) -> httpx.Response:
        """Returns the answer once the traversal is done: the same request is the same traversal."""
        given = {"image": image, "image2": image2}
        pictures = {name: picture for name, picture in given.items() if picture is not None}
        files = {
            name: (name, await self._transport.work(partial(picture_bytes, picture)))
            for name, picture in pictures.items()
        }
        body = {"data": {name: form_text(value) for name, value in options.items()}, "files": files or None}
        while True:
            response = await self._transport.send(Request("POST", "/traversals", body, _PATIENT))
            if response.status_code != httpx.codes.ACCEPTED:
                return response

    async def _pages(self, kind: type[Page], path: str, **params: str | int) -> AsyncIterator[Page]:
        """Yields the pages of a list."""
        params["limit"] = PAGE_SIZE
        while True:
            page = await self._ask(kind, Request("GET", path, {"params": params}))
            yield page
            if page.next is None:
                return
            params["after"] = page.next

    async def _upload(self, address: str, path: Path, body: Mapping[str, Any]) -> httpx.Response:
        name, file = await self._transport.work(partial(open_upload, path))
        with file:
            data = {field: form_json(value) for field, value in body.items()}
            options = {"data": data, "files": {"file": (name, file)}}
            return await self._transport.send(Request("POST", address, options, is_slow=True))

    async def _local_path(self, source: str | os.PathLike[str]) -> Path | None:
        """Returns the folder or file to upload; None where the service has a data set of that name."""
        path = Path(source).expanduser()
        if not isinstance(source, str) or path.name != source:
            return path
        try:
            await self._get(Dataset, f"/datasets/{_quoted(source)}")
        except ServiceError as error:
            if error.code != "unknown_dataset" or not path.exists():
                raise
            return path
        return None


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _raise_unless_passing(error: ServiceError) -> None:
    if error.code not in PASSING:
        raise error
