"""Hyperparameters of a training run: one definition for the HTTP schema, the command line and the loop; no torch."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from models.config import ARCHITECTURES, IMAGE_SIZES, ConfigError, NetworkConfig, check, is_read, setting
from models.info import Preprocessing

OBJECTIVES = ("controlled", "capacity", "beta", "btcvae", "annealed")
RESTARTING = ("controlled", "annealed")
"""Objectives whose early pressure prunes latents, which a restart brings back."""
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad", "adadelta")
LEARNING_RATE_SCHEDULES = ("cooldown", "constant", "cosine", "plateau")

PAPER_CAPACITY_STEPS = 100_000
"""Burgess et al. 2018 raise C over this many steps."""
LEAST_PREVIEWS = 10
"""Pictures of a run, where it has so many steps."""
MOST_VALIDATIONS = 200
"""Of a run that says nothing else: an epoch of few images would take less time than its validation."""
_COMPONENTS = 3
"""That a restart teaches where the pictures have colours."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides what a training run does; two runs with equal configs and data give equal models."""

    # Network and input
    architecture: str = setting("burgess", text="Convolutional network.", choices=ARCHITECTURES)
    image_size: int = setting(64, text="Height and width of the images.", unit="px", choices=IMAGE_SIZES)
    num_channels: int | None = setting(
        None, text="1 for grey images, 3 for RGB; empty: 3 where the pictures have colours.", choices=(1, 3)
    )
    latent_dim: int = setting(10, text="Number D of latent dimensions.", minimum=1, maximum=256)
    crop: str = setting(
        "center",
        text="Part of a picture that is kept before it is resized: the largest centred square, or all (squashed).",
        choices=("center", "none"),
    )
    crop_size: int | None = setting(
        None, text="Side of a centred square to cut first, instead of crop.", unit="px", minimum=8, maximum=4096
    )

    # Objective
    objective: str = setting(
        "controlled",
        text=(
            "controlled: reconstruction + β·KL, with β moved every step so that the KL follows C (as in Shao 2020); "
            "capacity: reconstruction + γ·|KL − C| (Burgess 2018); beta: reconstruction + β·KL (Higgins 2017); "
            "btcvae: β on the total correlation alone (Chen 2018); annealed: as beta, with β falling from beta_start. "
            "Where gamma or beta is given and no objective, capacity or beta is meant, unless the preset has another "
            "than controlled."
        ),
        choices=OBJECTIVES,
    )
    likelihood: str = setting("bernoulli", text="Likelihood of a pixel.", choices=("bernoulli", "gaussian"))
    gamma: float = setting(
        1000.0,
        text="Weight γ of |KL − C| (capacity, which is meant where gamma is given and no objective).",
        minimum=0,
        maximum=1e6,
    )
    capacity_start: float = setting(
        0.0, text="C at step 0 (controlled, capacity).", unit="nats", minimum=0, maximum=10_000
    )
    capacity_max: float = setting(
        25.0,
        text="C at the end of its ramp (controlled, capacity); lower than capacity_start, C falls.",
        unit="nats",
        minimum=0,
        maximum=10_000,
    )
    capacity_steps: int | None = setting(
        None,
        text="Length of the ramp (controlled, capacity); empty: half of num_steps, at most the paper's 100 000.",
        unit="steps",
        minimum=0,
        maximum=100_000_000,
    )
    capacity_epochs: float | None = setting(
        None,
        text="Length of the ramp in epochs, instead of capacity_steps (controlled, capacity).",
        unit="epochs",
        above=0,
        maximum=100_000,
    )
    beta: float = setting(
        4.0,
        text=(
            "Weight β of the KL (beta, which is meant where beta is given and no objective; annealed: at the end) or "
            "of the total correlation (btcvae)."
        ),
        minimum=0,
        maximum=1e6,
    )
    beta_start: float = setting(150.0, text="β at step 0 (annealed, controlled).", minimum=0.01, maximum=1e6)
    beta_least: float = setting(
        1.0,
        text=(
            "Least β (controlled). At 0 the KL meets C whatever that costs; at 1 C is an upper bound: no nat of KL is "
            "bought that is worth less than one of reconstruction."
        ),
        minimum=0,
        maximum=1e6,
    )
    beta_gain: float = setting(
        0.05,
        text="How fast β is steered: log β moves by this much times (KL − C)/(1 + C) a step (controlled).",
        above=0,
        maximum=1,
    )
    anneal_steps: int = setting(
        3_000,
        text="Steps over which β falls geometrically from beta_start to beta (annealed).",
        unit="steps",
        minimum=0,
    )
    restart_step: int | None = setting(
        None,
        text=(
            "Step at which the network is drawn anew, with every latent alive, and for restart_steps learns from the "
            "old encoder where the active dimensions lie: latents that early pressure pruned come back. C is at its "
            "end from then on. Empty: by restart_fraction (controlled), none (annealed)."
        ),
        unit="steps",
        minimum=1,
    )
    restart_fraction: float = setting(
        0.25,
        text="Share of the run at which the network is drawn anew, where restart_step is empty; 0: never (controlled).",
        minimum=0,
        maximum=1,
    )
    restart_steps: int | None = setting(
        None,
        text="Steps over which the old encoder's weight falls to 0 after a restart; empty: half of num_steps.",
        unit="steps",
        minimum=1,
    )
    restart_components: int | None = setting(
        None,
        text=(
            "How many latents, those that carried least, learn principal components of what the old network could not "
            "reproduce, for restart_steps: small things and colours, which training otherwise passes over. Fewer than "
            "latent_dim. Empty: 3, but at most a third of the latents, for pictures in colour where β is steered; else "
            "none (controlled and annealed, with a restart)."
        ),
        minimum=0,
        maximum=64,
    )
    restart_axes: str = setting(
        "found",
        text=(
            "At which angle the old encoder shows its latents at a restart. found: its own, which is luck in part; "
            "independent: turned to where they are as independent as can be, which sets x and y of a sprite apart "
            "(experimental); with fewer than 2 000 images they stay as found (controlled and annealed, with a restart)."
        ),
        choices=("found", "independent"),
    )

    encoder_start: str = setting(
        "quiet",
        text=(
            "Weights that the encoder begins with. quiet: latents carry next to nothing and grow out of the prior one "
            "by one; alive: all carry something from the first step on, which leaves the mean image early. "
            "Without effect where a run starts from another model."
        ),
        choices=("quiet", "alive"),
    )

    # Optimisation
    num_steps: int = setting(100_000, text="Length of the run.", unit="steps", minimum=1, maximum=100_000_000)
    num_epochs: float | None = setting(
        None, text="Length of the run in epochs, instead of num_steps.", unit="epochs", above=0, maximum=100_000
    )
    batch_size: int = setting(64, text="Images a step.", minimum=1, maximum=8192)
    optimizer: str = setting("adam", text="Optimizer.", choices=OPTIMIZERS)
    learning_rate: float = setting(5e-4, text="Learning rate at its highest.", above=0, maximum=10)
    learning_rate_schedule: str = setting(
        "cooldown",
        text=(
            "cooldown: constant, then falling to 0 over the last fifth of the run; constant; cosine: falls to a "
            "hundredth over the second two thirds of the run; plateau: times plateau_factor after plateau_patience "
            "validations without a better loss."
        ),
        choices=LEARNING_RATE_SCHEDULES,
    )
    plateau_factor: float = setting(0.1, text="Factor of the plateau schedule.", above=0, maximum=1)
    plateau_patience: int = setting(
        5, text="Validations without progress before the rate falls; 0 is as 1.", minimum=0, maximum=1000
    )
    weight_decay: float = setting(0.0, text="Weight decay (L2, or decoupled for adamw).", minimum=0, maximum=1)
    seed: int = setting(0, text="Decides weights, data order and noise.", minimum=0, maximum=2**31 - 1)

    # Validation and records
    validation_fraction: float = setting(
        0.05,
        text="Share of the images kept for validation, where the set has no split of its own.",
        minimum=0,
        maximum=0.5,
    )
    validation_steps: int | None = setting(
        None,
        text="Steps between validations; empty: once an epoch, but at most 200 times, and at the end.",
        unit="steps",
        minimum=1,
    )
    log_steps: int = setting(
        50, text="Steps between records; each holds the means since the last.", unit="steps", minimum=1, maximum=100_000
    )
    preview_steps: int = setting(
        2_000, text="Steps between previews, of which a run makes ten at least; 0: none.", unit="steps", minimum=0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.objective == "btcvae" and self.batch_size < 2:
            raise ConfigError("batch_size", "must be at least 2 for btcvae, which compares the images of a batch")
        if self.objective == "controlled" and self.beta_start < self.beta_least:
            raise ConfigError("beta_start", f"must be at least beta_least, which is {self.beta_least:g}")
        if self.objective == "annealed" and self.beta == 0:
            raise ConfigError("beta", "must be above 0 for annealed, which falls to it by the same factor every step")
        if self.objective in RESTARTING and (self.restart_components or 0) >= self.latent_dim:
            raise ConfigError("restart_components", f"must be fewer than the {self.latent_dim} latents")

    @property
    def network(self) -> NetworkConfig:
        return NetworkConfig(
            architecture=self.architecture,
            image_size=self.image_size,
            num_channels=self._num_channels(),
            latent_dim=self.latent_dim,
        )

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(
            image_size=self.image_size, num_channels=self._num_channels(), crop=self.crop, crop_size=self.crop_size
        )

    def _num_channels(self) -> int:
        if self.num_channels is None:
            raise ValueError("num_channels is open until the pictures are known: see with_channels")
        return self.num_channels


def with_channels(config: TrainingConfig, num_channels: int) -> TrainingConfig:
    """The config, with this number of channels where it was left open."""
    return config if config.num_channels is not None else replace(config, num_channels=num_channels)


def with_lengths_in_steps(config: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """The config with every length that was left open, or given in epochs, in steps.

    Args: steps_per_epoch, the batches in one pass over the training split.
    """
    num_steps = config.num_steps
    if config.num_epochs is not None:
        num_steps = max(1, round(config.num_epochs * steps_per_epoch))
    if config.capacity_epochs is not None:
        capacity_steps = round(config.capacity_epochs * steps_per_epoch)
    elif config.capacity_steps is not None:
        capacity_steps = config.capacity_steps
    else:
        capacity_steps = min(PAPER_CAPACITY_STEPS, num_steps // 2)
    restart_step = config.restart_step
    if restart_step is None and config.objective == "controlled" and config.restart_fraction > 0:
        restart_step = max(1, round(config.restart_fraction * num_steps))
    return replace(
        config,
        restart_step=restart_step,
        restart_steps=config.restart_steps or max(1, num_steps // 2),
        num_steps=num_steps,
        num_epochs=None,
        capacity_steps=capacity_steps,
        capacity_epochs=None,
        validation_steps=config.validation_steps or max(1, steps_per_epoch, num_steps // MOST_VALIDATIONS),
        preview_steps=min(config.preview_steps, max(1, num_steps // LEAST_PREVIEWS)),
    )


def with_restart_components(config: TrainingConfig) -> TrainingConfig:
    """The config, its lengths and channels known, with the number of restart_components where it was left open.

    On sets like 3D Shapes and MPI3D they find what a run without them passes over, on faces they change nothing, and
    on dSprites, which is grey, they cost 6 nats (docs/experiments.md).
    """
    if config.restart_components is not None:
        return config
    finds_colours = config.objective == "controlled" and config.restart_step is not None and config.num_channels == 3
    return replace(config, restart_components=min(_COMPONENTS, config.latent_dim // 3) if finds_colours else 0)


def unread_settings(config: TrainingConfig) -> list[str]:
    """Settings with a value of their own that the objective does not read.

    Args: config, as it was asked for: with its lengths in steps it has values of its own everywhere. A
    restart_fraction of 0 is what a run from a model's weights has.
    """
    return [
        f.name
        for f in fields(TrainingConfig)
        if getattr(config, f.name) != f.default
        and not is_read(f.name, config.objective)
        and not (f.name == "restart_fraction" and config.restart_fraction == 0)
    ]


def check_initial_network(config: TrainingConfig, network: NetworkConfig) -> None:
    """Raises ConfigError where a run cannot start from the weights of a model, naming what the two differ in.

    Args: network, the model's.
    """
    own = config.network
    differing = [
        f"{f.name} {getattr(network, f.name)} (this run: {getattr(own, f.name)})"
        for f in fields(NetworkConfig)
        if getattr(network, f.name) != getattr(own, f.name)
    ]
    if differing:
        raise ConfigError("from", f"the model has another network: {', '.join(differing)}")


def config_to_json(config: TrainingConfig) -> dict[str, Any]:
    """All fields by name."""
    return asdict(config)


def config_from_json(data: dict[str, Any]) -> TrainingConfig:
    """Reads field values by name. Raises ConfigError for an unknown field or a value outside its limits."""
    known = {f.name for f in fields(TrainingConfig)}
    for name in data:
        if name not in known:
            raise ConfigError(name, "is no setting of a training run")
    return TrainingConfig(**data)
