"""Named training settings. Each text states the preset's source, its command, its cost and the expected result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.config import ConfigError
from training.config import TrainingConfig, all_settings, config_to_json
from training.objectives.beta import Beta
from training.objectives.capacity import Capacity
from training.objectives.ramp import CapacityRamp
from training.objectives.registry import DEFAULT, OBJECTIVES, readers_of


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named config, with the data set that it is meant for."""

    config: TrainingConfig
    dataset: str | None
    text: str


_K13 = TrainingConfig(
    num_channels=3,
    objective="controlled",
    capacity_max=50.0,
    capacity_epochs=150.0,
    num_epochs=200.0,
    learning_rate_schedule="plateau",
    validation_fraction=0.2,
)
"""Published settings of Knight13/beta-VAE-disentanglement (K13) that its two data sets share. Only the objective
differs: K13 uses `capacity` with γ = 1000."""

_LOCATELLO = TrainingConfig(
    learning_rate=1e-4, learning_rate_schedule="constant", num_steps=300_000, validation_fraction=0.01
)
"""Adam 1e-4 at a constant rate and 300 000 steps, with which Locatello et al. 2019 train every objective."""

PRESETS: dict[str, Preset] = {
    "dsprites": Preset(
        dataset="dsprites",
        text=(
            "The shipped dsprites model. β falls from 150 to 1.2 in 3 000 steps, which separates x, y and scale; after "
            "a restart the other factors join (objective annealed). `betavae train --preset dsprites` takes 45 minutes "
            "on one core and reaches 29.4 nats at a KL of 23.7, MIG .23, BetaVAE .88, FactorVAE .82. Three seeds ran "
            "to step 3 000; the latents of seed 1 follow the picture's axes best."
        ),
        config=TrainingConfig(
            objective="annealed",
            beta_start=150.0,
            beta=1.2,
            anneal_steps=3_000,
            restart_step=3_000,
            restart_steps=15_000,
            num_steps=25_000,
            learning_rate=1e-3,
            learning_rate_schedule="cosine",
            validation_fraction=0.01,
            seed=1,
        ),
    ),
    "box_chairs": Preset(
        dataset="chairs",
        text=(
            "The shipped chairs model, trained on the built-in box chairs. β falls from 30 to 2; at the restart two "
            "latents learn what the first network could not reproduce, which is the hue, and the others are rotated "
            "towards independence. `betavae train --preset box_chairs` takes 21 minutes on one core and reaches 87 "
            "nats above the images' entropy at a KL of 26.6, BetaVAE .99, FactorVAE .87, MIG .19."
        ),
        config=TrainingConfig(
            num_channels=3,
            latent_dim=12,
            objective="annealed",
            encoder_start="alive",
            beta_start=30.0,
            beta=2.0,
            anneal_steps=3_000,
            restart_step=2_500,
            restart_steps=4_000,
            restart_components=2,
            restart_axes="independent",
            num_steps=12_000,
            learning_rate=1e-3,
            learning_rate_schedule="cosine",
            validation_fraction=0.01,
        ),
    ),
    "dsprites_burgess": Preset(
        dataset="dsprites",
        text=(
            "The settings of Burgess et al. 2018: γ 1000, C from 0 to 25 nats over 100 000 steps, Adam 5e-4, batch 64; "
            "here the learning rate cools down at the end. `betavae train --preset dsprites_burgess` takes 1.7 hours "
            "on two cores. It ends at 568 nats, the loss of the mean image, at a KL of 25.0, FactorVAE 0, MIG 0 (see "
            "docs/experiments.md); the best-known public model of this objective has 78.3 nats at 25.0 on 100 images "
            "of the original set."
        ),
        config=TrainingConfig(
            objective="capacity",
            gamma=1000.0,
            capacity_max=25.0,
            capacity_steps=100_000,
            num_steps=150_000,
            validation_fraction=0.01,
        ),
    ),
    "dsprites_higgins": Preset(
        dataset="dsprites",
        text=(
            "β = 4 of Higgins et al. 2017 with the network of Locatello et al. 2019: Adam 1e-4, 300 000 steps. "
            "`betavae train --preset dsprites_higgins` takes 3 to 6 hours on two cores. Seed 0 (half of it on a GPU) "
            "reached 26 nats at a KL of 15.0, FactorVAE .54, BetaVAE .70, DCI .13, MIG .04, with x and y mixed into "
            "four latents. Published scores of β-VAEs on dSprites are FactorVAE .63, DCI .41, MIG .21."
        ),
        config=_LOCATELLO.replace(architecture="higgins", objective="beta", beta=4.0),
    ),
    "dsprites_factorvae": Preset(
        dataset="dsprites",
        text=(
            "FactorVAE of Kim and Mnih 2018: γ 40, a discriminator of 6 × 1000 units, Adam 1e-4 for both, 300 000 "
            "steps. `betavae train --preset dsprites_factorvae`. We have not run it to its end. A smaller run (γ 35, 3 "
            "× 256 units, Adam 5e-4 and 1e-3 for the discriminator, 6 000 steps) reached 75.7 nats at a KL of 18.3, "
            "MIG .04, FactorVAE .44, BetaVAE .64. The published FactorVAE score is .82, MIG .43."
        ),
        config=_LOCATELLO.replace(objective="factorvae", gamma=40.0),
    ),
    "dsprites_dipvae1": Preset(
        dataset="dsprites",
        text=(
            "DIP-VAE-I of Kumar et al. 2018 with λ_od 10 and λ_d 100, and the schedule of Locatello et al. 2019: Adam "
            "1e-4, 300 000 steps. `betavae train --preset dsprites_dipvae1`. We have not run it to its end. 2 000 "
            "steps at Adam 1e-3 reached 91.3 nats at a KL of 22.3."
        ),
        config=_LOCATELLO.replace(objective="dipvae1", lambda_off_diagonal=10.0, lambda_diagonal=100.0),
    ),
    "dsprites_dipvae2": Preset(
        dataset="dsprites",
        text=(
            "DIP-VAE-II of Kumar et al. 2018 with λ_od and λ_d 10, and the schedule of Locatello et al. 2019: Adam "
            "1e-4, 300 000 steps. `betavae train --preset dsprites_dipvae2`. We have not run it to its end. A smaller "
            "run (Adam 1e-3, finished at step 5 669) "
            "reached 84.5 nats at a KL of 13.3, MIG .04, FactorVAE .34, BetaVAE .63."
        ),
        config=_LOCATELLO.replace(objective="dipvae2", lambda_off_diagonal=10.0, lambda_diagonal=10.0),
    ),
    "dsprites_categorical": Preset(
        dataset="dsprites",
        text=(
            "The categorical latents of Friede et al. 2023: 64 values each, Gumbel noise of .5 to 2, Adam 1e-4, "
            "300 000 steps. `betavae train --preset dsprites_categorical`. We have not run it to its "
            "end. 3 000 steps at Adam 1e-3 with cosine reached 102.1 nats at a KL of 24.2, MIG .02."
        ),
        config=_LOCATELLO.replace(objective="categorical"),
    ),
    "dsprites_adagvae": Preset(
        dataset="dsprites",
        text=(
            "The Ada-GVAE of Locatello et al. 2020 on pairs that differ in one factor: β 1, 64 pairs a step, Adam "
            "1e-4, 300 000 steps. `betavae train --preset dsprites_adagvae`. We have not run it to its end."
        ),
        config=_LOCATELLO.replace(objective="adagvae", batch_size=128),
    ),
    "dsprites_pairs": Preset(
        dataset="dsprites",
        text=(
            "Ada-GVAE on pairs that differ in one factor, with a β that falls from 60 to 1 and a restart: the largest "
            "MIG of the presets. `betavae train --preset dsprites_pairs` takes a quarter of an hour on one core. Seed "
            "0 reached MIG .39; x and y have a latent each, scale and shape share one, and orientation has none. The "
            "labels choose the pairs, so that its scores compare with no unsupervised run's."
        ),
        config=TrainingConfig(
            objective="adagvae",
            beta_start=60.0,
            beta=1.0,
            anneal_steps=1_800,
            restart_step=1_800,
            restart_steps=2_100,
            num_steps=6_000,
            batch_size=128,
            learning_rate=1e-3,
            learning_rate_schedule="cosine",
            validation_fraction=0.001,
        ),
    ),
    "celeba": Preset(
        dataset=None,
        text=(
            "K13's CelebA run: C from 0 to 50 nats over 150 of 200 epochs, 32 latents, Adam 5e-4, batch 64, rate × 0.1 "
            "after 5 validations without progress. It uses CelebA's own partition, or without the partition's list a "
            "fifth of the images for validation. The objective `controlled` makes the KL follow C, with a restart "
            "after 50 epochs, from which C is at 50; K13's own objective is `--objective capacity`, with γ = 1000. "
            "`betavae train celeba --preset celeba` expects img_align_celeba and its lists in the folder celeba; "
            "508 600 steps take 6 to 10 hours on two cores. We have not run this preset, since we do not have the "
            "images. 5 000 of its steps on 8 000 drawn faces reached 232 nats above the images' entropy at a KL of "
            "45.3."
        ),
        # A restart's components, which colour pictures have by default, gain nothing on faces (docs/experiments.md).
        config=_K13.replace(latent_dim=32, crop="none", restart_components=0),
    ),
    "chairs": Preset(
        dataset=None,
        text=(
            "K13's 3D Chairs run: the settings of celeba, but with 16 latents, on the central 400 px. "
            "`betavae train rendered_chairs --preset chairs` makes 216 000 steps in 3 to 4 hours on two cores. We have "
            "not run this preset, since we do not have the images. 5 000 of its steps on the box chairs reached 177 "
            "nats above the images' entropy at a KL of 34.2."
        ),
        config=_K13.replace(latent_dim=16, crop_size=400),
    ),
}


_DEFAULTS = TrainingConfig()


def resolve(preset: str | None, overrides: Mapping[str, Any], *, from_model: bool = False) -> TrainingConfig:
    """Returns a preset's config, or the defaults, with the settings in `overrides` replaced.

    Args:
        preset: A name in PRESETS, or None.
        overrides: Settings by name in the flat form.
        from_model: Whether the run starts from a model's weights. A restart, or a high initial β, would destroy them,
            so the config has these only where overrides request them.

    Raises:
        ConfigError: The preset or a setting is unknown, a value is outside its limits, or the objective does not read
            a setting.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError("preset", f"must be one of {', '.join(PRESETS)}, not {preset!r}")
    base = PRESETS[preset].config if preset else _DEFAULTS
    changes: dict[str, Any] = {}
    for steps, epochs in (("num_steps", "num_epochs"), ("capacity_steps", "capacity_epochs")):
        default = all_settings()[steps].default
        if overrides.get(epochs) is not None:
            if steps in config_to_json(base):
                changes[steps] = default
            # The config of an earlier job, which may be posted again, contains the default as well.
            if overrides.get(steps) not in (None, default):
                raise ConfigError(epochs, f"excludes {steps}; give one of the two")
        elif overrides.get(steps) is not None and epochs in config_to_json(base):
            changes[epochs] = None
    objective = overrides.get("objective", _meant_objective(base, overrides))
    config = _with_objective(base, objective, changes, overrides)
    if from_model:
        config = config.replace(objective=config.objective.for_trained_weights(overrides))
    has_ramp = any(overrides.get(name) is not None for name in ("capacity_steps", "capacity_epochs"))
    return config if has_ramp else _with_ramp_of(base, config)


def _with_objective(
    base: TrainingConfig, objective: Any, changes: dict[str, Any], overrides: Mapping[str, Any]
) -> TrainingConfig:
    known = OBJECTIVES[objective].model_fields if objective in OBJECTIVES else {}
    changes = {name: value for name, value in changes.items() if name in known or not readers_of(name)}
    return base.replace(**{**changes, **overrides, "objective": objective})


def _with_ramp_of(base: TrainingConfig, config: TrainingConfig) -> TrainingConfig:
    """Returns the config with a ramp of C that takes the same share of the run as the preset's ramp."""
    if (config.num_steps, config.num_epochs) == (base.num_steps, base.num_epochs):
        return config
    ramp = base.objective
    if not isinstance(ramp, CapacityRamp):
        return config
    if base.num_epochs is not None and ramp.capacity_epochs is not None:
        share = ramp.capacity_epochs / base.num_epochs
    elif base.num_epochs is None and ramp.capacity_steps is not None:
        share = ramp.capacity_steps / base.num_steps
    else:
        return config
    return config.replace(objective=config.objective.with_ramp_of(share, config.num_steps, config.num_epochs))


def _meant_objective(base: TrainingConfig, overrides: Mapping[str, Any]) -> str:
    """Returns the objective that a request means which gives a weight but names no objective.

    Raises:
        ConfigError: The given weights belong to different objectives.
    """
    has_gamma, has_beta, has_capacity = (overrides.get(name) is not None for name in ("gamma", "beta", "capacity_max"))
    if base.objective.name != DEFAULT or not (has_gamma or has_beta):
        return base.objective.name
    if has_beta and (has_gamma or has_capacity):
        raise ConfigError(
            "objective",
            "is missing: beta belongs to beta, btcvae and annealed, gamma to capacity, C to controlled and capacity",
        )
    return Capacity.name if has_gamma else Beta.name
