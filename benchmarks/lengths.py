"""How long the sentences of SST-2 are, for machines without the data."""

import numpy as np

# Training rows of SST-2 by tokens, [CLS] and [SEP] included: entry i counts the rows of FIRST + i tokens. Measured
# over all 67,349 rows with MiniLM's (bert-base-uncased's) tokenizer; mean 13.3, longest 66.
FIRST = 3
COUNTS = (
    1978, 5322, 6065, 5345, 4749, 4155, 3713, 3267, 2947, 2650, 2413, 2138, 1950, 1777, 1661, 1515, 1373, 1285, 1132,
    1106, 1046, 909, 820, 806, 733, 692, 628, 538, 491, 442, 448, 400, 337, 304, 286, 242, 195, 203, 192, 155, 148,
    130, 89, 82, 85, 73, 55, 42, 50, 40, 36, 19, 21, 22, 15, 8, 6, 3, 2, 5, 5, 1, 2, 2,
)  # fmt: skip


def draw_lengths(rows: int, seed: int) -> np.ndarray:
    """Token counts of `rows` sentences, distributed as in SST-2."""
    counts = np.array(COUNTS, dtype=float)
    lengths = np.arange(FIRST, FIRST + len(counts))
    return np.random.default_rng(seed).choice(lengths, size=rows, p=counts / counts.sum())
