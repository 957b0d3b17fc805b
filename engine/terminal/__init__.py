"""Everything that the program shows in the terminal: log lines, progress bars, rank maps."""
