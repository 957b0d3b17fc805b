"""Choose some of many points, evenly spread."""

import numpy as np


def spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` points, evenly spread, including the first and, if `most` is above 1, the
    last."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()
