"""Compares the automatic labels of latent dimensions with the factors of the pictures.

    python -m benchmarks.labels                     the shipped models, on the built-in sets that they were trained on
    python -m benchmarks.labels MODEL PICTURES      a model, by id or folder, and a folder of drawn faces; PICTURES.csv
                                                    beside the folder names what each picture shows

Every dimension whose label has a strength above .5 is a row: the label, the factor of which the dimension's codes tell
the largest share (mutual information over entropy, both less what shuffled columns seem to have), and whether the two
agree. The labels are measured on decoded pictures alone, without the factors. `WORDS` says which labels agree with
which factor; a label with two parts agrees with the factors of both.
"""

import argparse
import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.cli.stores import Stores, open_stores, pack_of
from models.files import LoadedModel, load_model
from training.data.packs import Pack
from training.metrics.evaluation import encode_images
from worker.rendering.labels import best_factors, label_model

MIN_STRENGTH = 0.5
FACTOR_IMAGES = 10_000

_SHAPE = r"shape changes|gets (wider|narrower|taller|shorter)"
_COLOUR = r": (.* → |becomes |redder|greener|yellower|bluer)"
_FACE = r"^(centre|upper middle|lower middle)"
_HEAD = r"^(top|upper( \w+)?|around the centre|sides)"
_BODY = r"^(bottom|lower)"

WORDS = {
    "shape": _SHAPE, "scale": "grows|shrinks", "orientation": f"turns|{_SHAPE}",
    "x": r"moves( up and| down and)? (left|right)|moves$", "y": r"moves (up|down)|moves$",
    "azimuth": f"turns|{_SHAPE}", "elevation": _SHAPE, "leg_height": f"moves (up|down)|{_SHAPE}",
    "back_height": f"moves (up|down)|{_SHAPE}", "seat_width": "gets (wider|narrower)|shape changes",
    "hue": f"object{_COLOUR}",
    "backgroundColor": f"background{_COLOUR}", "skinColor": f"{_FACE}{_COLOUR}",
    "hairColor": f"{_HEAD}{_COLOUR}", "hatColor": f"{_HEAD}{_COLOUR}", "clothesColor": f"{_BODY}.*{_COLOUR}",
    "top": _HEAD, "clothing": _BODY, "eyes": _FACE, "eyebrows": _FACE, "mouth": _FACE, "facialHair": f"{_FACE}|{_BODY}",
    "accessories": _FACE,
}  # fmt: skip
"""Regular expression of the labels that agree with a factor, by the factor's name: those of the built-in sets, then the
options of drawn faces."""


def shipped(stores: Stores) -> list[tuple[str, LoadedModel, Pack]]:
    """Returns the shipped models with their sets; a set is packed where that has not been done."""
    found = []
    for name in ("dsprites", "chairs"):
        model = load_model(stores.model(name)[1])
        found.append((name, model, pack_of(stores, name, model.info.preprocessing)))
    return found


def with_options(stores: Stores, model: LoadedModel, pictures: Path) -> Pack:
    """Returns the pack of a folder of pictures with the columns of its CSV as factors.

    Args:
        stores: The stores.
        model: The model, whose preprocessing the pack has.
        pictures: The folder; the CSV beside it has a row for each picture in the order of their names.
    """
    pack = pack_of(stores, str(pictures), model.info.preprocessing)
    with open(f"{pictures}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "picture"]
    columns = [np.unique([row[name] for row in rows], return_inverse=True)[1] for name in names]
    if "backgroundColor" in names:  # The generator's column does not say which background it drew, but a corner does.
        corners = np.asarray(pack.images[:, 1, 1]) // 4
        columns[names.index("backgroundColor")] = np.unique(corners, axis=0, return_inverse=True)[1].reshape(-1)
    if len(rows) != len(pack.images):
        raise SystemExit(f"{pictures}.csv has {len(rows)} rows, and the folder {len(pack.images)} pictures")
    return replace(pack, factors=np.stack(columns, 1).astype(np.uint16), info=replace(pack.info, factor_names=names))


def strongest_factors(model: LoadedModel, pack: Pack) -> list[str]:
    """Returns the name of the factor of each dimension, which is empty where it says too little about all of them."""
    assert pack.factors is not None
    rows = np.sort(np.random.default_rng(0).permutation(len(pack.images))[:FACTOR_IMAGES])
    codes = encode_images(model.network, pack.images, rows, device="cpu")
    best = best_factors(codes, np.asarray(pack.factors)[rows], list(pack.info.factor_names))
    return [factor["name"] if factor else "" for factor in best]


def agrees(label: str, factor: str) -> bool:
    """Returns whether a part of a label agrees with a factor."""
    return any(re.search(WORDS[factor], part) for part in label.split(", ")) if factor else False


def print_table(name: str, model: LoadedModel, pack: Pack) -> tuple[int, int]:
    """Prints the rows of one model. Returns the number of rows that agree, and of all."""
    images = replace(pack, factors=None)
    info = label_model(model.network, model.info, images)
    agreeing = total = 0
    for k, factor in enumerate(strongest_factors(model, pack)):
        strength = info.dimension_effects[k]["strength"]
        if strength <= MIN_STRENGTH:
            continue
        label = info.dimension_effects[k]["label"]
        is_right = agrees(label, factor)
        agreeing, total = agreeing + is_right, total + 1
        print(f"| {name} | z{k} | {label} | {strength:.2f} | {factor} | {'yes' if is_right else 'no'} |")
    return agreeing, total


def main() -> None:
    """Reads the command line, and prints the table and the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", nargs="?", help="id or folder of a model of drawn faces")
    parser.add_argument(
        "pictures", nargs="?", type=Path, help="folder of drawn faces, with a CSV of its name beside it"
    )
    arguments = parser.parse_args()
    stores = open_stores("cpu")
    models = shipped(stores)
    if arguments.model:
        model = load_model(stores.model(arguments.model)[1])
        models = [(model.info.name, model, with_options(stores, model, arguments.pictures))]
    print("| model | dimension | label | strength | factor | agrees |\n|---|---|---|--:|---|---|")
    shares = [(name, *print_table(name, model, pack)) for name, model, pack in models]
    for name, agreeing, total in shares:
        print(f"\n{name}: {agreeing} of {total} agree")


if __name__ == "__main__":
    main()
