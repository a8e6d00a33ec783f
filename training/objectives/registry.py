"""Lists all objectives by name; a new objective adds one line here beside its own file. Free of torch."""

from training.objectives.adagvae import AdaGVAE
from training.objectives.annealed import Annealed
from training.objectives.base import Objective
from training.objectives.beta import Beta
from training.objectives.btcvae import BetaTCVAE
from training.objectives.capacity import Capacity
from training.objectives.categorical import Categorical
from training.objectives.controlled import Controlled
from training.objectives.dipvae import DIPVAE1, DIPVAE2
from training.objectives.factorvae import FactorVAE

_CLASSES: tuple[type[Objective], ...] = (
    Controlled,
    Capacity,
    Beta,
    BetaTCVAE,
    Annealed,
    FactorVAE,
    DIPVAE1,
    DIPVAE2,
    Categorical,
    AdaGVAE,
)
OBJECTIVES: dict[str, type[Objective]] = {objective.name: objective for objective in _CLASSES}
DEFAULT = Controlled.name


def readers_of(setting: str) -> list[str]:
    """Returns the names of the objectives that read a setting; empty for a common or an unknown setting."""
    return [name for name, objective in OBJECTIVES.items() if setting in objective.model_fields]
