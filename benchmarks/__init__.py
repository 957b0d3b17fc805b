"""What the program costs, measured: a module per command, `python -m benchmarks.step`; docs/performance.md."""
