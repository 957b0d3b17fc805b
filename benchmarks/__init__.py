"""Measure what the program costs. Each benchmark is a command, such as `python -m benchmarks.step`;
docs/performance.md describes them."""
