"""Seeds for random draws that must not depend on what was drawn before them."""

import hashlib


def seed_of(*parts: int | str) -> int:
    """A seed (0 to 2^63 - 1) from the run's seed and what is drawn: equal parts give equal seeds on
    every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
