"""A few pictures of a data set, for people to look at. This module loads no torch."""

import numpy as np
from numpy.typing import NDArray

from models.info import Preprocessing
from training.data.images import preprocess_array
from worker.stores.datasets import DatasetRegistry
from worker.stores.parsing_pool import sample_in_child
from worker.stores.storage import LocalStorage

THUMBNAIL = Preprocessing(image_size=64, num_channels=3)
"""Size and crop of the pictures of a sample."""


def sample_pictures(datasets: DatasetRegistry, dataset_id: str, count: int) -> NDArray[np.uint8]:
    """Returns a few pictures that are spread over a data set: of its newest pack, or of its source, in a child.

    Args:
        datasets: The registry.
        dataset_id: Id of the data set.
        count: Largest number of pictures.

    Returns:
        (n, 64, 64, 3) uint8, with n at least 1.

    Raises:
        UnknownDataset: There is no such data set.
        DatasetError: There is no pack, and the source is gone or cannot be read.
    """
    datasets.get(dataset_id)
    # A pack in a remote storage would first be fetched as a whole.
    packs = datasets.packs(dataset_id) if isinstance(datasets.storage, LocalStorage) else []
    pack = datasets.open(dataset_id, packs[0].preprocessing) if packs else None
    if pack is None:
        return sample_in_child(datasets.source(dataset_id), THUMBNAIL, count, datasets.limits)
    total = pack.info.num_images
    chosen = np.sort(np.random.default_rng(0).choice(total, min(count, total), replace=False))
    return np.stack([preprocess_array(pack.images[index], THUMBNAIL) for index in chosen])
