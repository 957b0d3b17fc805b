"""The search, Algorithm 1 of the paper: learn alpha and write search/, from which engine/choose
derives ranks.json."""
