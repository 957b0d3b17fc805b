"""The search, Algorithm 1 of the paper: learn alpha, and leave what ranks are chosen from."""
