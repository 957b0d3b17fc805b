"""Measure what the program costs (docs/performance.md), and how good its ranks are (places, enough). Each benchmark is
a command, such as `python -m benchmarks.step`."""

import os
import sys

from problems.machine.hub import settle_hub_access

if sys.argv[0] == "-m":  # a benchmark is being started; a test only imports this
    # As in run.py, before the libraries that read these settings are imported.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    settle_hub_access()
