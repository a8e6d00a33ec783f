"""3D Chairs (Aubry et al. 2014), whose labels are in the names of its pictures; free of torch."""

import re
from collections.abc import Sequence

import numpy as np

from training.data.images import has_picture_suffix
from training.data.layouts.layout import Labels, Layout, split_by_group
from training.data.sources import DatasetError

_CHAIR = re.compile(r"(?:^|/)([^/]+)/renders/image_\d+_p(\d{1,9})_t(\d{1,9})_r\d+\.png$")


def is_chairs3d(names: Sequence[str]) -> bool:
    """Returns True if nearly all pictures have the names of 3D Chairs."""
    num_chairs = sum(1 for n in names if _CHAIR.search(n))
    return num_chairs > 0 and num_chairs >= 0.9 * sum(map(has_picture_suffix, names))


def read_chairs3d(names: Sequence[str], split: str) -> Layout:
    """Reads a folder of 3D Chairs.

    A name is <model>/renders/image_NNN_pPPP_tTTT_rRRR.png, with the elevation PPP and the azimuth TTT in degrees.

    Args:
        names: Relative POSIX paths of all files.
        split: See ImageFolder.split.

    Raises:
        DatasetError: wrong_layout if no file has such a name.
    """
    found = {name: match for name in names if (match := _CHAIR.search(name))}
    if not found:
        raise DatasetError("wrong_layout", "no file is named <model>/renders/image_NNN_pPPP_tTTT_rRRR.png")
    # Sorted by model, elevation and azimuth.
    kept = sorted(found, key=lambda n: (found[n][1], int(found[n][2]), int(found[n][3])))

    def label(chosen: Sequence[str]) -> Labels:
        matches = [found[name] for name in chosen]
        elevations, elevation = np.unique([int(m[2]) for m in matches], return_inverse=True)
        azimuths, azimuth = np.unique([int(m[3]) for m in matches], return_inverse=True)
        models = [m[1] for m in matches]
        return Labels(
            factors=np.stack([elevation, azimuth], axis=1).astype(np.uint16),
            factor_names=("elevation", "azimuth"),
            factor_sizes=(len(elevations), len(azimuths)),
            split=None if split == "none" else split_by_group(models),
            identities=np.unique(models, return_inverse=True)[1].astype(np.int32),
        )

    others = [name for name in names if name not in found and has_picture_suffix(name)]
    return Layout(kind="chairs3d", names=kept, unlabelled=others, label=label)
