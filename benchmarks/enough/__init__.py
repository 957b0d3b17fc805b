"""Is the rank that a search calls enough as good as the best rank, when both are trained?"""
