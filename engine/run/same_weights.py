"""Check whether the base model still has the weights with which work in the run's folder was done.

A hub's main branch moves on, and a local folder may be trained again; LoRA's weights fit only the base model that they
were trained on.
"""

import logging
from dataclasses import dataclass, field

from autolora.engine.run.resuming import Outdated

log = logging.getLogger("autolora")


@dataclass
class KnownWeights:
    """The digest of the base model that a run has loaded, and the digests that its earlier work recorded.

    The weights are known only after loading, so `expect` stores the recorded digests, and `check` compares them then.
    All contexts of a run share one object.
    """

    loaded: str | None = None
    _expected: list[tuple[str, str, str | None]] = field(default_factory=list)

    def expect(self, digest: str | None, what: str, way_out: str | None) -> None:
        """Expects the weights with this digest (None: it was not recorded).

        `what`: the clause that ends "... no longer has the weights that", such as "the ranks were chosen with";
        `way_out`: what the user can do; None if other weights are allowed, with a warning.
        """
        if digest is not None:
            self._expected.append((digest, what, way_out))

    def check(self, digest: str, name: str) -> None:
        """Remembers the digest of the base model `name`, which has just been loaded. Raises Outdated if other weights
        are expected."""
        self.loaded = digest
        for expected, what, way_out in self._expected:
            if expected == digest:
                continue
            change = f"--model.name: {name} no longer has the weights that {what}"
            if way_out is not None:
                raise Outdated(f"{change}; {way_out}")
            log.warning("%s; they are taken as they are", change)
        self._expected.clear()
