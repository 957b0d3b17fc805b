"""What the program costs, measured: one module per command, `python -m benchmarks.step --json OUT`; docs/performance.md."""
