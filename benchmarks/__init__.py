"""Measure what a step costs (docs/performance.md), and try hypergradients where the answer is known (bilevel). Each
benchmark is a command, such as `python -m benchmarks.step`."""

import os
import sys

from autolora.problems.machine.hub import settle_hub_access

# While `python -m benchmarks.step` imports this package, sys.argv[0] is "-m"; in a test it is not.
if sys.argv[0] == "-m":
    # As in run.py, before the libraries that read these settings are imported.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settle_hub_access()
