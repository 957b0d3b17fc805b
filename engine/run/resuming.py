"""Compare the settings under which unfinished or finished work was made with those of the command.

Each stage declares the keys that change its result. Its checkpoint stores their values; before the stage resumes, they
are compared with the configuration at hand. Every other key may change.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import OF_THRESHOLD, flat, marked
from autolora.configs.own_class import digest
from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.section import COST, EVALUATE, Mark

_FILE = "hypergradient.type, its file"
RESUME_AT_OLD_VALUE = "give the old value to resume, --name for another run, or --overwrite to start again"


class Outdated(UserError):
    """Half-done or finished work cannot be resumed: it was made under other settings, or from other files."""


@dataclass(frozen=True)
class Settings:
    """The keys that change the result of one piece of work: keys and whole sections in `read`, except those in `but`,
    and those with one of the `marks` that are not in `also`."""

    read: Iterable[str]
    but: Iterable[str] = ()
    marks: Collection[Mark] = (COST, EVALUATE)
    also: Iterable[str] = ()

    def of(self, config: RunConfig) -> dict[str, Any]:
        """Key -> value in `config`, as a checkpoint stores them; with an approximation of the user's own also what
        tells whether its file has changed."""
        left_out = [*self.but, *(key for key in marked(config, self.marks) if key not in self.also)]
        if isinstance(config, Autolora) and config.answer.rule != "threshold":  # it does not read them
            left_out += OF_THRESHOLD
        found = {
            key: value
            for key, value in flat(config.model_dump()).items()
            if _covers(self.read, key) and not _covers(left_out, key)
        }
        content = digest(found["hypergradient.type"]) if "hypergradient.type" in found else None
        return found | ({_FILE: f"SHA-256 {content}"} if content else {})

    def refuse_changed(
        self,
        recorded: Mapping[str, Any],
        config: RunConfig,
        what: str,
        way_out: str = RESUME_AT_OLD_VALUE,
        given_as: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Raises Outdated for the first key that the run reads and whose recorded value is not the one in `config`.

        `what` says what was made under the old value; `way_out` ends the message. `given_as`: key -> the key that the
        message names instead, because the user gives that one and the program sets the other.
        """
        for key, new in self.of(config).items():
            old = recorded.get(key, new)
            if old != new:
                values = f"{given_word(old)}, now it is {given_word(new)}"
                raise Outdated(f"--{given_as.get(key, key)}: {what} {values}; {way_out}")


def given_word(value: Any) -> str:
    """A value as the command line takes it: null, true and false as in YAML."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _covers(names: Iterable[str], key: str) -> bool:
    """Whether `names` holds the key or a section around it."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
