"""Measure what the program costs (docs/performance.md), and how good its ranks are (places, enough). Each benchmark is
a command, such as `python -m benchmarks.step`."""
