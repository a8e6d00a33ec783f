"""Entries of data sets and of their packs. This module loads no torch."""

from dataclasses import dataclass, field
from typing import Any

from models.info import Preprocessing
from training.data.builtin_sets import factor_sizes
from training.data.packs import PackInfo

BUILT_IN_NAMES = {
    "dsprites": "dSprites-compatible shapes",
    "dsprites_color": "dSprites-compatible shapes in random colours",
    "chairs": "Rendered chairs",
}
"""Ids and names of the data sets that the service draws itself."""


class UnknownDataset(KeyError):
    """There is no data set with this id."""

    def __str__(self) -> str:
        return f"There is no data set with the id {self.args[0]}."


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """The registry's entry of a data set.

    `status` is unpacked, ready (there is a pack) or failed (`error` says why).
    """

    id: str
    name: str
    kind: str
    """The kind is builtin, folder, file or upload."""
    source: str
    """The built-in set's name, the path on the worker's machine, or the uploaded file's name."""
    status: str = "unpacked"
    num_images: int | None = None
    num_rejected: int | None = None
    packs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    layout: str = "auto"
    split: str = "official"
    stride: int = 1
    created_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return {f: getattr(self, f) for f in self.__dataclass_fields__}


def pack_name(preprocessing: Preprocessing) -> str:
    """Returns the folder name of a pack, which holds everything that decides its pixels."""
    parts = [f"{preprocessing.image_size}px", "grey" if preprocessing.num_channels == 1 else "rgb"]
    if preprocessing.crop_size is not None:
        parts.append(f"crop{preprocessing.crop_size}")
    if preprocessing.crop == "none":
        parts.append("whole")
    return "-".join(parts)


def pack_prefix(dataset_id: str, preprocessing: Preprocessing) -> str:
    """Returns the prefix of the storage keys of a pack."""
    return f"datasets/{dataset_id}/{pack_name(preprocessing)}"


def failure_key(dataset_id: str) -> str:
    """Returns the storage key of the error of a data set's last packing."""
    return f"datasets/{dataset_id}/failure.json"


def pack_job_id(dataset_id: str, preprocessing: Preprocessing) -> str:
    """Returns the id of the one job that packs a data set with this preprocessing."""
    return f"pack-{dataset_id}-{pack_name(preprocessing)}"


def known_labels(record: DatasetRecord) -> tuple[list[int], bool] | None:
    """Returns the sizes of a data set's factors, and whether it has sequences; None where packing will tell."""
    if record.packs:
        return record.packs[0]["factor_sizes"], record.packs[0]["has_sequences"]
    return (list(factor_sizes(record.source)), False) if record.kind == "builtin" else None


def pack_summary(pack: PackInfo) -> dict[str, Any]:
    """Returns the fields of a pack that the data set's entry shows."""
    return {
        "image_size": pack.image_size,
        "num_channels": pack.num_channels,
        "crop": pack.preprocessing.crop,
        "crop_size": pack.preprocessing.crop_size,
        "num_images": pack.num_images,
        "num_rejected": pack.num_rejected,
        "factor_names": list(pack.factor_names),
        "factor_sizes": list(pack.factor_sizes),
        "split_sizes": pack.split_sizes,
        "has_sequences": pack.has_sequences,
        "digest": pack.digest,
        "created_at": pack.created_at,
    }
