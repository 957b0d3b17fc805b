"""Which method wrote a ranks.json, and which methods read that of another run; needs no torch."""

from collections.abc import Mapping, Sequence

from configs.errors import UserError
from configs.methods import readers
from engine import ranks
from engine.ranks import controls
from engine.run.asked import Asked

ADALORA, EVA, PARA = "adalora", "eva", "para"
OWN_RULES: Mapping[str, Sequence[str] | None] = {
    "autolora": None,
    "lora": (controls.UNIFORM,),
    "lora_grid": (controls.GRID,),
    "lora_modules": (controls.MODULES,),
    "optuna": (controls.OPTUNA,),
    "lora_ranks": (controls.GIVEN,),
    "lora_shuffled": (controls.SHUFFLED,),
    "lora_random": (controls.RANDOM,),
    "adalora": (ADALORA,),
    "eva": (EVA,),
    "para": (PARA,),
}
"""Method -> the values of `rule` in a ranks.json that it accepts as its own. None: accepts every value that no other
method owns, such as a search's or "by hand". A method that is not listed writes no ranks."""
READ_RANKS = readers("lora.ranks_from")
"""The methods that start from the ranks.json that lora.ranks_from names."""


def refuse_other_ranks(asked: Asked) -> None:
    """Refuses a folder that holds another method's ranks.json, which this run would overwrite or take for its own."""
    path, rules = asked.folder.ranks, OWN_RULES.get(asked.config.method, ())
    if asked.stage == "report" or not path.exists():
        return
    rule = ranks.load(path).rule
    owned = {rule for own in OWN_RULES.values() for rule in own or ()}
    if rule in owned if rules is None else rule not in rules:
        raise UserError(
            f"--method: {path} holds ranks of rule {rule!r}, which another method wrote; use --name to start another "
            f"run, or --stage all --overwrite to replace this one"
        )
