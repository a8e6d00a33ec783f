"""Writes a model card in Markdown: what a model is, what it learnt, and what it may be used for; free of torch."""

import re
from typing import Any

from models.config import normalised_beta
from models.info import ACTIVE_KL_NATS, ModelInfo


def model_card(info: ModelInfo) -> str:
    """Returns the card of a model, made from its model.json alone; unknown facts are left out or stated as unknown."""
    parts = [
        f"# {_plain(info.name)}",
        _summary(info),
        "## Input and output",
        _input(info),
        "## Losses",
        _losses(info),
        "## Latent dimensions",
        _dimensions(info),
    ]
    if info.metrics:
        parts += ["## Scores", _scores(info.metrics)]
    if info.training:
        parts += ["## Training", _settings(info)]
    parts += ["## Licence and origin", _origin(info)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(info: ModelInfo) -> str:
    network = info.network
    kind = "grey" if network.num_channels == 1 else "RGB"
    text = (
        f"A β-VAE ({network.architecture} network) for {network.image_size}×{network.image_size} {kind} images with "
        f"{network.latent_dim} latent dimensions"
    )
    name = info.dataset.get("name") or info.dataset.get("id")
    if not name:
        return f"{text}."
    count = info.dataset.get("num_images")
    size = f" ({count} images)" if isinstance(count, int) else ""
    steps = f" for {info.step} steps" if info.step else ""
    return f"{text}, trained on {_plain(str(name))}{size}{steps}."


def _input(info: ModelInfo) -> str:
    p = info.preprocessing
    crop = "the largest centred square is kept" if p.crop == "center" else "the whole picture is squashed to a square"
    if p.crop_size is not None:
        crop = f"the centred {p.crop_size}×{p.crop_size} pixels are kept"
    categories = info.network.num_categories
    posterior = "Gaussian" if categories is None else f"distribution over {categories} values from -1 to 1"
    return (
        f"Pictures: {crop}, resized to {p.image_size}×{p.image_size}, {p.num_channels} "
        f"channel{'s' if p.num_channels > 1 else ''}, values in [0, 1]. The encoder returns mean and log-variance of a "
        f"{posterior} per dimension; the decoder returns pixel means ({info.likelihood} likelihood)."
    )


def _losses(info: ModelInfo) -> str:
    lines = []
    if info.reconstruction_loss is not None:
        floor = ""
        if info.bernoulli_floor is not None and info.bernoulli_floor >= 0.005:
            floor = (
                f"; {info.bernoulli_floor:.2f} of them are the entropy of the grey images, which no network can avoid"
            )
        lines.append(f"- reconstruction loss {info.reconstruction_loss:.2f} nats per image, decoding the mean{floor}")
    if info.kl_per_dimension:
        active = info.active_dimensions
        lines.append(
            f"- KL from the prior {sum(info.kl_per_dimension):.2f} nats; {len(active)} of "
            f"{info.network.latent_dim} dimensions are active (above {ACTIVE_KL_NATS} nats, and visible)"
        )
    return "\n".join(lines) or "The losses were not measured, since the model was imported without a data set."


def _dimensions(info: ModelInfo) -> str:
    """Returns a table with one row per dimension, sorted by falling KL where the KL is known."""
    rows = ["| dimension | KL, nats | changes | strength | best factor |", "|--:|--:|---|--:|---|"]
    order = list(range(info.network.latent_dim))
    if info.kl_per_dimension:
        order.sort(key=lambda k: -info.kl_per_dimension[k])
    for k in order:
        kl = f"{info.kl_per_dimension[k]:.2f}" if info.kl_per_dimension else ""
        label = info.dimension_labels[k] if info.dimension_labels else ""
        effect = info.dimension_effects[k] if info.dimension_effects else {}
        strength = _number(effect.get("strength"))
        rows.append(f"| {k} | {kl} | {_plain(label)} | {strength} | {_factor(effect.get('factor'))} |")
    return "\n".join(rows)


def _factor(factor: object) -> str:
    if not isinstance(factor, dict):
        return ""
    correlation, information = _number(factor.get("correlation")), _number(factor.get("mutual_information"))
    return f"{_plain(str(factor.get('name', '')))} (r {correlation}, {information} nats)"


def _scores(metrics: dict[str, Any]) -> str:
    rows = ["| score | value | 95 % interval | |", "|---|--:|---|---|"]
    for name, score in sorted(metrics.items()):
        value, interval, note = score, None, ""
        if isinstance(score, dict):
            value, interval, note = score.get("value"), score.get("interval"), str(score.get("note") or "")
        ends = ""
        if isinstance(interval, list | tuple) and len(interval) == 2:
            ends = f"{_number(interval[0])} to {_number(interval[1])}"
        rows.append(f"| {_plain(name)} | {_number(value)} | {ends} | {_plain(note)} |")
    return "\n".join(rows)


def _settings(info: ModelInfo) -> str:
    settings = dict(info.training)
    beta = settings.get("beta")
    if info.steered_beta is not None:
        beta = settings["β at the end"] = info.steered_beta
    if isinstance(beta, int | float):
        settings["normalised β (β·D/(C·H·W))"] = normalised_beta(beta, info.network)
    rows = ["| setting | value |", "|---|---|"]
    rows += [f"| {_plain(name)} | {_plain(_text(value))} |" for name, value in settings.items() if value is not None]
    return "\n".join(rows)


def _origin(info: ModelInfo) -> str:
    lines = [f"- licence: {_plain(info.licence) or 'not stated'}"]
    if info.source:
        lines.append(f"- source: {_plain(info.source)}")
    lines.append(f"- made: {_plain(info.created_at)}")
    if info.weights_sha256:
        lines.append(f"- model.safetensors sha256: `{_plain(info.weights_sha256)}`")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Returns the text on one line, escaped so that it can neither leave a table cell nor become markup."""
    return re.sub(r"([\\|<>`*_\[\]#])", r"\\\1", " ".join(text.split()))


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) and not isinstance(value, bool) else ""
