"""The end of a run of `betavae train`: the model's labels, its place in the registry, and its scores."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.evaluate import evaluate_pack, show_evaluation
from app.cli.output import note
from app.cli.stores import Stores
from models.info import ModelInfo, read_info, write_info
from training.data.packs import Pack

if TYPE_CHECKING:
    from models.networks import VAE


def finish_run(
    stores: Stores, folder: Path, dataset: str, pack: Pack, register: bool, metrics: tuple[str, ...] | None
) -> str | Path:
    """Names the dimensions of a run's model, registers and evaluates it, and returns its id, or its folder without one.

    Args:
        stores: The stores.
        folder: Folder of the run's model.
        dataset: Id of the data set, or path of the folder or archive of its pictures.
        pack: The images of the run.
        register: True adds the model to the models of the data folder.
        metrics: Names of the scores to compute; None makes no evaluation.
    """
    from models.files import load_model
    from worker.rendering.labels import label_model

    info = read_info(folder)
    info = replace(info, dataset={**info.dataset, "id": dataset})  # The pack knows only the name of its folder.
    device = stores.device()
    network = load_model(folder, device).network
    info = label_model(network, info, pack, device=device)
    write_info(folder, info)
    _note_losses(info)
    model_id = (_registered(stores, info) or stores.models.add(folder)) if register else None
    if metrics is not None:
        _evaluate(stores, network, folder, model_id, info, pack, metrics)
    return model_id or folder


def _note_losses(info: ModelInfo) -> None:
    floor = f" (floor {info.bernoulli_floor:.2f})" if (info.bernoulli_floor or 0) >= 0.005 else ""
    note(
        f"step {info.step}: reconstruction {info.reconstruction_loss:.2f} nats{floor}, "
        f"KL {sum(info.kl_per_dimension):.2f} nats, "
        f"{len(info.active_dimensions)} of {info.network.latent_dim} dimensions active"
    )


def _registered(stores: Stores, info: ModelInfo) -> str | None:
    """Returns the id of this model if the same command has registered it before, or None."""
    for record in stores.models.records():
        if record.info.weights_sha256 == info.weights_sha256 and record.info.name == info.name and not record.shipped:
            return record.id
    return None


def _evaluate(
    stores: Stores,
    network: "VAE",
    folder: Path,
    model_id: str | None,
    info: ModelInfo,
    pack: Pack,
    metrics: tuple[str, ...],
) -> None:
    """Evaluates the model of a finished run, and writes the scores into both copies of its description.

    The scores are also shown on standard error. If the evaluation fails or is interrupted, the model stays as it is.

    Args:
        stores: The stores.
        network: The network.
        folder: Folder of the run's model.
        model_id: Id of the registered copy; None if there is none.
        info: The description.
        pack: The images.
        metrics: Names of the scores.
    """
    from training.device import is_out_of_memory
    from worker.evaluations import save_scores, with_scores

    try:
        found = evaluate_pack(stores, network, info, pack, metrics, seed=0)
        show_evaluation(found, note)
        write_info(folder, with_scores(info, found, info.dataset["id"]))
        if model_id is not None:
            save_scores(stores.models, model_id, found, info.dataset["id"], info.weights_sha256)
    except (KeyboardInterrupt, ValueError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        why = "stopped" if isinstance(error, KeyboardInterrupt) else f"failed: {error or 'out of memory'}"
        note(f"warning: the evaluation {why}; `betavae evaluate {model_id or folder} --save` repeats it")
