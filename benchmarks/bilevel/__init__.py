"""A small bilevel problem with a known answer, on which every hypergradient approximation is tried."""
