"""Measure what the program costs. A module is a command, as `python -m benchmarks.step`; docs/performance.md."""
