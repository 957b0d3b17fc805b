"""Choose some of many rows, evenly spread over all of them."""

import numpy as np


def evenly(count: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `count` rows, in order and evenly spread, the first row among them."""
    if count <= most:
        return np.arange(count)
    return np.arange(most) * count // most
