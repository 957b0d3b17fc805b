"""Stage 1, Algorithm 1 of the paper: learn alpha, end with ranks.json."""
