"""The layers of the tiny BERT, and ranks as a search may leave them."""

# A width of 32: one rank-1 component of a layer has 64 numbers, the head 66.
SIZE, HEAD, K = 64, 66, 4
NAMES = [f"bert.encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")]
LEARNED = [1, 4, 2, 3]
