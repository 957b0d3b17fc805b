"""The methods: how to build the model that the one trainer trains, and what is kept of it."""

from configs.errors import UserError
from engine import ranks
from engine.ranks import controls
from engine.ranks.module_sets import MODULES
from engine.retrain.methods import lora
from engine.retrain.methods.adalora import AdaLora
from engine.retrain.methods.adapter import Adapter
from engine.retrain.methods.base import Method, Prepared
from engine.retrain.methods.eva import Eva
from engine.retrain.methods.full import Full
from engine.retrain.methods.head import Head
from engine.retrain.methods.lora import RankedLora
from engine.retrain.methods.para import Para
from engine.run.opening import Asked

__all__ = ["METHODS", "Method", "Prepared", "refuse_other_ranks"]

METHODS: dict[str, Method] = {
    "autolora": RankedLora(lora.of_the_run, rules=None),
    "lora": RankedLora(lora.uniform, rules=(controls.UNIFORM,)),
    "lora_grid": RankedLora(lora.of_the_run, rules=(controls.GRID,)),
    "lora_modules": RankedLora(lora.of_the_run, rules=(MODULES,)),
    "optuna": RankedLora(lora.of_the_run, rules=(controls.OPTUNA,)),
    "lora_ranks": RankedLora(lora.of_another, rules=(controls.GIVEN,), reads_ranks=True),
    "lora_shuffled": RankedLora(lora.shuffled, rules=(controls.SHUFFLED,), reads_ranks=True),
    "lora_random": RankedLora(lora.random, rules=(controls.RANDOM,), reads_ranks=True),
    "adalora": AdaLora(),
    "eva": Eva(),
    "para": Para(),
    "adapter": Adapter(),
    "head": Head(),
    "full": Full(),
}


def refuse_other_ranks(asked: Asked) -> None:
    """Refuses a folder with another method's ranks.json, which this run would replace or take for its own."""
    path, rules = asked.folder.ranks, METHODS[asked.config.method].rules
    if asked.stage == "report" or not path.exists():
        return
    rule = ranks.load(path).rule
    owned = {rule for method in METHODS.values() for rule in method.rules or ()}
    if rule in owned if rules is None else rule not in rules:
        raise UserError(
            f"--method: {path} holds ranks of rule {rule!r}, which come from another method; --name starts another "
            f"run, --stage all --overwrite replaces this one"
        )
