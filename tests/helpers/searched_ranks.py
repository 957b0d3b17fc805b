"""The folder of a run whose search chose these ranks, as `--show RUN --for TRAINER` reads it."""

from pathlib import Path

from peft import TaskType

from autolora.configs.files import of_folder
from autolora.configs.schema import Autolora
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_text
from autolora.engine.export.lora_config import adapter_config, save_lora_config
from autolora.engine.run.folder import RunFolder

KEPT = {
    "model.layers.0.self_attn.q_proj": 3,
    "model.layers.0.self_attn.v_proj": 8,
    "model.layers.1.self_attn.q_proj": 0,
}
LEFT = {name: rank for name, rank in KEPT.items() if rank}


class OfOneType:
    """All that `adapter_config` asks of a task."""

    def __init__(self, kind: TaskType) -> None:
        self.peft_type = kind


def searched_at(
    root: Path, kept: dict[str, int] = KEPT, lora_alpha: float = 16.0, kind: TaskType = TaskType.CAUSAL_LM,
    name: str = "org/base",
) -> RunFolder:  # fmt: skip
    """What a search leaves for trainers, at these ranks of k = 8."""
    folder, model = RunFolder(root), ModelConfig(name=name, revision="v1" if name == "org/base" else None)
    config = Autolora(
        name=root.name, runs_folder=str(root.parent), lora=LoraSettings(lora_alpha=lora_alpha), model=model
    )
    record = ranks.RankRecord(8, tuple(ranks.LayerRank(name, rank, (0.125,) * 8) for name, rank in kept.items()))
    record, task = ranks.of_run(record, config), OfOneType(kind)
    ranks.save(record, folder.ranks)
    save_lora_config(adapter_config(config, record, task, []), record, folder.lora_config, config)  # type: ignore[arg-type]
    write_text(folder.config, of_folder(config))
    return folder
