"""Questions about a configuration on which it depends whether a key is read; configs/unread.py asks them."""

from autolora.configs.facts import SEARCHING, evaluates_base
from autolora.configs.methods import FACTS, readers
from autolora.configs.places import may_be_on_hub
from autolora.configs.recipe import is_benchmark
from autolora.configs.schema import RunConfig

# Methods that keep to lora.budget, or without it to lora.r.
BUDGETED = readers("lora.budget")


def fixed_data(c: RunConfig) -> bool:
    """Whether the splits and the columns of the data are known beforehand: those of GLUE, E2E and WebNLG."""
    return c.task.type == "glue" or is_benchmark(c.task)


def reads_hub(c: RunConfig) -> bool:
    """Whether the rows may come from the hub: a path that does not exist and has no file ending is a hub name."""
    path = c.task.path
    if path is None:
        return fixed_data(c)
    own_table = c.task.type in ("sample", "text") or (c.task.type == "generation" and not is_benchmark(c.task))
    return not own_table and may_be_on_hub(path)


def has_template(c: RunConfig) -> bool:
    """Whether the task reads a chat template if the model has one."""
    asked = c.task.prompt == "chat" or (c.task.prompt == "auto" and not is_benchmark(c.task))
    return c.task.type == "chat" or (c.task.type == "generation" and asked)


def no_study(c: RunConfig) -> bool:
    """Whether the configuration describes a single run."""
    return not (c.study.axes or c.study.variants)


def divides(c: RunConfig) -> bool:
    """Whether the run divides the training rows into D_tr and D_val."""
    return c.method in SEARCHING or (bool(c.retrain.learning_rates) and not evaluates_base(c))


def uses_r(c: RunConfig) -> bool:
    """Whether the method takes its number of LoRA parameters from lora.r."""
    if c.method in BUDGETED:
        return c.lora.budget is None and (c.method != "lora_random" or c.lora.ranks_from is None)
    return "lora.r" in FACTS[c.method].reads
