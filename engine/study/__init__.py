"""A study, which is many runs: its axes and cells, the launchers that start the cells, its tables
and its page."""
