"""The layers that the tests' rank records are of."""

# Layer -> (outputs, inputs).
SHAPES = {"encoder.0.query": (8, 6), "encoder.0.value": (8, 8), "encoder.1.query": (4, 8)}
