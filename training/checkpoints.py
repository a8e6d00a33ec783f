"""Saves training state as tensors in safetensors and the rest in JSON beside them; no pickle.

A checkpoint is named <step>-<fence>. A job's fence grows with every worker that takes over the job, which distinguishes
the files of a replaced worker. The .json is written last and holds the digest of the tensors: a checkpoint without a
.json, or with a different digest, is ignored.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from models.atomic import write_bytes
from training.config import TrainingConfig, config_from_json, config_to_json

_NAME = re.compile(r"(\d+)-(\d+)\.json")
KEPT = 2
"""Number of checkpoints that a folder keeps."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another run."""


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run after `step` optimizer updates."""

    step: int
    tensors: dict[str, Tensor]
    """Tensors by name: network.<parameter>, optimizer.<parameter index>.<state name>, those of the objective's own
    networks and optimizers, and after a restart those of Teacher.tensors()."""
    state: dict[str, Any] = field(default_factory=dict)
    """Values that JSON can hold: config, data set digest, learning-rate state, best validation loss and others."""


def planned_steps(checkpoint: Checkpoint) -> int:
    """Returns the number of steps after which the run of a checkpoint ends."""
    state = checkpoint.state
    ending = state.get("finishing") or state.get("extension")
    return int(ending[1] if ending else state["config"]["num_steps"])


def config_of_run(checkpoint: Checkpoint) -> TrainingConfig:
    """Returns a checkpoint's settings; missing ones get today's default, except restart_components, which was 0."""
    config: dict[str, Any] = checkpoint.state["config"]
    return config_from_json({"restart_components": 0} | config)


def check_same_run(checkpoint: Checkpoint, config: TrainingConfig, digest: str) -> None:
    """Checks that a run with this config, on the images of this digest, can go on from a checkpoint.

    Raises:
        CheckpointError: The settings or the images are others.
    """
    own, began = config_to_json(config), config_to_json(config_of_run(checkpoint))
    # The settings of previews and records do not affect the model.
    names = [name for name in began | own if name not in ("preview_steps", "log_steps")]
    if differing := [name for name in names if began.get(name) != own.get(name)]:
        named = ", ".join(f"{name} {began.get(name)} (now {own.get(name)})" for name in differing)
        raise CheckpointError(f"the checkpoint belongs to a run with other settings: {named}")
    if checkpoint.state["dataset_digest"] != digest:
        raise CheckpointError("the checkpoint belongs to a run on other images")


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def write_checkpoint(folder: Path, checkpoint: Checkpoint, fence: int = 0, *, keep: int = KEPT) -> Path:
    """Writes <step>-<fence>.safetensors and .json, and removes older checkpoints.

    Args:
        folder: The folder of the checkpoints.
        checkpoint: The state to write.
        fence: The fence of the job's worker.
        keep: Number of checkpoints that remain, with the new one; 0 removes none.

    Returns:
        Path of the .json.
    """
    data = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()})
    stem = folder / f"{checkpoint.step:08d}-{fence}"
    write_bytes(stem.with_suffix(".safetensors"), data)
    description = {
        "format_version": 1,
        "step": checkpoint.step,
        "fence": fence,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "state": checkpoint.state,
    }
    path = stem.with_suffix(".json")
    write_bytes(path, json.dumps(description).encode())
    if keep:
        # Checkpoints of later steps are removed as well: a run that resumed from an earlier step abandoned them.
        others = [other for other in list_checkpoints(folder) if other != path]
        for old in others[: max(0, len(others) - keep + 1)]:
            old.unlink(missing_ok=True)
            old.with_suffix(".safetensors").unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the .json files of a folder's checkpoints, oldest first, sorted by fence and then by step."""
    found = []
    for path in folder.glob("*.json"):
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[2]), int(match[1]), path))
    return [path for _, _, path in sorted(found)]


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint, given its .json.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    try:
        description = json.loads(path.read_text("utf-8"))
        data = path.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != description["tensors_sha256"]:
            raise CheckpointError(f"{path.name}: the tensors are not those that the checkpoint describes")
        return Checkpoint(description["step"], safetensors.torch.load(data), description["state"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name}: {error}") from error


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Returns the newest intact checkpoint of a folder, or None; damaged ones are skipped."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return read_checkpoint(path)
        except CheckpointError:
            continue
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimizer's state as named tensors; numbers become 0-dimensional tensors."""
    tensors = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    return tensors


@torch.no_grad()
def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores the output of optimizer_tensors; the optimizer's parameter groups (with the rates) stay as they are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in below("optimizer.", tensors).items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # Fused kernels read parameter and state as flat memory, so both need the same (channels-last) order.
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
