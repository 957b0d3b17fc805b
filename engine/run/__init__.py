"""A run beside its results: its log, its commit, the machine, and how an error becomes a line."""
