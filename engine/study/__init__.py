"""Many runs: the axes of a study, the launchers of its cells, its tables and its page."""
