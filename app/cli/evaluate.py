"""`betavae evaluate`: measures a model on a data set, and how far models of several seeds agree."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from app.cli.options import DeviceOption
from app.cli.output import CliError, note, progress
from app.cli.stores import Stores, open_stores, pack_of
from models.config import ConfigError
from models.info import INFO_FILE, ModelInfo, write_info
from training.data.packs import Pack
from training.metrics.names import ALL_METRICS, METRICS, OTHER_METRICS, check_metrics
from worker.stores.models import ShippedModel

if TYPE_CHECKING:
    from models.networks import VAE
    from training.metrics.evaluation import Evaluation

MetricsOption = Annotated[
    str | None,
    typer.Option(
        help=f"Scores to compute, separated by commas: {', '.join(METRICS)}, which are the usual ones; "
        f"{', '.join(OTHER_METRICS)}. all computes all of them; none computes only the losses.",
        show_default="the usual ones",
    ),
]


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="The id or the folder of a model; --udr takes several.",
            show_default="the default model",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A data set (id, folder or archive).", show_default="the model's own")
    ] = None,
    metrics: MetricsOption = None,
    udr: Annotated[
        bool,
        typer.Option(
            "--udr",
            help="Compare two or more models that were trained alike with different seeds, by unsupervised "
            "disentanglement ranking (Duan et al. 2020). The data set needs no factors. The models may differ in "
            "latent_dim, but not in the preprocessing of their images.",
        ),
    ] = False,
    similarity: Annotated[
        Literal["lasso", "spearman"], typer.Option(help="The way in which --udr compares two dimensions.")
    ] = "lasso",
    seed: Annotated[int, typer.Option(help="The seed of every random draw.", min=0)] = 0,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Write the scores into the model's description.")] = False,
) -> None:
    """Compute the losses, active dimensions and disentanglement scores of a model on a data set, or compare models."""
    stores = open_stores(device)
    dataset = stores.dataset(dataset) if dataset else None
    if udr:
        if save or metrics is not None:
            raise ConfigError("--udr", "takes no --save and no --metrics, because it scores a group of models")
        _evaluate_agreement(stores, models or [], dataset, similarity, seed, as_json)
        return
    if models and len(models) > 1:
        raise ConfigError("MODEL", "give one model, or --udr to compare several")
    _evaluate_one(stores, models[0] if models else None, dataset, parse_metrics(metrics), seed, as_json, save)


def parse_metrics(text: str | None) -> tuple[str, ...]:
    """Returns the names of the scores in a list that is separated by commas; None means the usual ones, and `all` all.

    Raises:
        ConfigError: A name is unknown.
    """
    if text is None:
        return METRICS
    if text.strip() == "all":
        return ALL_METRICS
    return check_metrics([part.strip() for part in text.split(",") if part.strip() not in ("", "none")], "--metrics")


def _evaluate_one(
    stores: Stores,
    name: str | None,
    dataset: str | None,
    metrics: tuple[str, ...],
    seed: int,
    as_json: bool,
    save: bool,
) -> None:
    """Evaluates one model, and prints the result.

    Args:
        stores: The stores.
        name: Id of the model or path of its folder; None takes the default model.
        dataset: The data set; None takes the one that the model was trained on.
        metrics: Names of the scores.
        seed: Seed of the scores.
        as_json: True prints JSON.
        save: True writes the scores into the model's description.

    Raises:
        CliError: The model cannot be evaluated, or its scores cannot be saved.
    """
    info, folder = stores.model(name)
    model_id = None if name and (Path(name) / INFO_FILE).is_file() else _model_id(stores, name)
    if save and model_id and stores.models.record(model_id).shipped:
        raise CliError(str(ShippedModel(model_id)))  # The evaluation would take minutes.
    chosen = _dataset_of([info], dataset)
    pack = pack_of(stores, chosen, info.preprocessing, as_it_was=dataset is None)
    found = evaluate_pack(stores, _load(stores, folder), info, pack, metrics, seed)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        show_evaluation(found, print)
    if save:  # The scores, which took minutes, are shown even if this fails.
        from worker.evaluations import save_scores, with_scores

        if model_id is None:
            write_info(folder, with_scores(info, found, chosen))
        elif not save_scores(stores.models, model_id, found, chosen, info.weights_sha256):
            raise CliError(f"the model {model_id} was removed or replaced during the evaluation")


def _model_id(stores: Stores, name: str | None) -> str | None:
    """Returns the id of a registered model that is given by its id or name, or of the default model."""
    return stores.models.find(name) if name else stores.models.default_id()


def _dataset_of(infos: Sequence[ModelInfo], dataset: str | None) -> str:
    """Returns the data set that was named, or else the one that the models were trained on.

    Raises:
        CliError: No data set was named, and the models name none or several.
    """
    own = {str(info.dataset.get("id") or "") for info in infos}
    if dataset:
        return dataset
    if len(own) > 1:
        raise CliError(f"the models were trained on different data sets ({', '.join(sorted(own))}): give --dataset")
    if own == {""}:
        raise CliError("the model does not say what it was trained on: give --dataset")
    return own.pop()


def _load(stores: Stores, folder: Path) -> "VAE":
    """Returns the network of a model; raises CliError if the files are damaged."""
    from models.files import load_model

    try:
        return load_model(folder, stores.device()).network
    except ValueError as error:
        raise CliError(str(error)) from error


def evaluate_pack(
    stores: Stores, network: "VAE", info: ModelInfo, pack: Pack, metrics: tuple[str, ...], seed: int
) -> "Evaluation":
    """Returns the result of evaluate_model, as an eye sees it; its progress is shown on standard error."""
    from training.metrics.evaluation import evaluate_model
    from worker.evaluations import as_seen

    with progress("evaluating") as report:
        found = evaluate_model(
            network,
            pack,
            device=stores.device(),
            metrics=metrics,
            seed=seed,
            likelihood=info.likelihood,
            on_progress=lambda stage, done, total: report(done, total, stage),
        )
    return as_seen(found, info)


def show_evaluation(found: "Evaluation", say: Callable[[str], object]) -> None:
    """Prints the losses and the scores, one on each line; remarks go to standard error.

    Args:
        found: The evaluation.
        say: A function that prints a line.
    """
    say(f"losses over {found.num_loss_images} images ({found.loss_images})")
    floor = ""
    if found.bernoulli_floor is not None and found.bernoulli_floor >= 0.005:
        floor = f", {found.bernoulli_floor:.2f} of them the images' own entropy (bernoulli_floor)"
    say(f"reconstruction_loss {found.reconstruction_loss:.2f} nats{floor}")
    say(f"kl {found.kl:.2f} nats, active dimensions {', '.join(map(str, found.active_dimensions)) or 'none'}")
    similarity = "" if found.ssim is None else f", SSIM {found.ssim:.3f}"
    say(f"PSNR {found.psnr:.2f} dB{similarity}")
    for name, score in found.scores.items():
        value = "not defined" if score.value is None else f"{score.value:z.3f}"
        interval = f" [{score.interval[0]:z.3f}, {score.interval[1]:z.3f}]" if score.interval else ""
        say(f"{name} {value}{interval} {score.note}".rstrip())
    for remark in found.notes:
        note(remark)


def _evaluate_agreement(
    stores: Stores, names: Sequence[str], dataset: str | None, similarity: str, seed: int, as_json: bool
) -> None:
    """Compares models with UDR, and prints the result.

    Args:
        stores: The stores.
        names: Ids of the models or paths of their folders.
        dataset: The data set; None takes the one that the models were trained on.
        similarity: lasso or spearman.
        seed: Seed of the comparison.
        as_json: True prints JSON.

    Raises:
        ConfigError: A model is given twice, or there are fewer than two.
        CliError: The models cannot be compared on the same images.
    """
    infos, folders = _models_to_compare(stores, names)
    chosen = _dataset_of(infos, dataset)
    pack = pack_of(stores, chosen, infos[0].preprocessing, as_it_was=dataset is None)
    networks = [_load(stores, folder) for folder in folders]

    from training.metrics.evaluation import NUM_TRAIN, evaluate_agreement

    with progress("comparing") as report:
        scores = evaluate_agreement(
            networks,
            pack,
            device=stores.device(),
            seed=seed,
            similarity=similarity,
            on_progress=lambda stage, done, total: report(done, total, "models encoded"),
        )
    result = {
        "models": [
            {
                "model": name,
                "udr": float(score),
                "training_seed": info.training.get("seed"),
                "latent_dim": info.network.latent_dim,
                "agreement": [float(value) for value in row],
            }
            for name, info, score, row in zip(names, infos, scores.model_scores, scores.pairwise.T, strict=True)
        ],
        "dataset": chosen,
        "num_images": min(NUM_TRAIN, len(pack.images)),
        "similarity": similarity,
        "seed": seed,
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show_agreement(result)


def _models_to_compare(stores: Stores, names: Sequence[str]) -> tuple[list[ModelInfo], list[Path]]:
    """Returns the descriptions and the folders of models that can be compared.

    Raises:
        ConfigError: A model is given twice, or there are fewer than two.
        CliError: There is no such model, or the models have different preprocessing.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError("--udr", f"{twice[0]} is given twice; a model always agrees with itself")
    if len(names) < 2:
        raise ConfigError("--udr", "needs two or more models: give their ids or folders")
    found = [stores.model(name) for name in names]
    infos = [info for info, _ in found]
    for name, info in zip(names, infos, strict=True):
        if info.preprocessing != infos[0].preprocessing:
            raise CliError(
                f"{name} takes other images than {names[0]} ({_images(info)}; {_images(infos[0])}): "
                "UDR compares models on the same images"
            )
    return infos, [folder for _, folder in found]


def _images(info: ModelInfo) -> str:
    """Returns the size, the colours and the crop of a model's images in words."""
    p = info.preprocessing
    crop = f"{p.crop_size} px" if p.crop_size else p.crop
    return f"{p.image_size} px {'grey' if p.num_channels == 1 else 'RGB'}, crop {crop}"


def _show_agreement(result: dict[str, Any]) -> None:
    """Prints a table of the models, in which the one that agrees best with the others comes first."""
    rows = result["models"]
    table = Table("", "model", "seed", "dimensions", "UDR", *(f"with {i + 1}" for i in range(len(rows))), box=None)
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["udr"])
    for i in order:
        row = rows[i]
        agreement = ["" if i == j else f"{value:.3f}" for j, value in enumerate(row["agreement"])]
        seed = row["training_seed"]
        table.add_row(
            str(i + 1),
            row["model"],
            "" if seed is None else str(seed),
            str(row["latent_dim"]),
            f"{row['udr']:.3f}",
            *agreement,
        )
    Console().print(table)
    most = "; models that are equal up to order and sign have .9" if result["similarity"] == "lasso" else ""
    print(f"{result['num_images']} images of {result['dataset']}, {result['similarity']}{most}")
