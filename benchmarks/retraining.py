"""The program's own retraining as a measurement: plain LoRA of rank k, trained by RetrainTrainer."""

from pathlib import Path

from transformers import PrinterCallback

from autolora.configs.layers import with_values
from autolora.configs.schema import Lora
from autolora.engine.retrain.fit import training_arguments
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.models.recompute import recompute_blocks
from benchmarks.workload import Workload


class Retraining:
    """A retraining at rank k in every layer, for so many steps on the rows of `work`; writes nothing into `folder`."""

    def __init__(self, work: Workload, steps: int, folder: Path) -> None:
        given = work.config
        values = {"method": "lora", "lora.r": given.lora.k, "retrain.max_steps": steps}
        config = with_values(given, values | {"retrain.batch_size": given.search.batch_size})
        model = METHODS[Lora].prepare(work.base(False), Context(config, StopRequest()), len(work.rows)).model
        if config.model.gradient_checkpointing:
            recompute_blocks(model)
        arguments = training_arguments(config, work.compute, folder)
        self.trainer = RetrainTrainer(
            model=model,
            compute=work.compute,
            args=arguments.set_save("no"),
            train_dataset=work.rows,
            data_collator=work.collate,
        )
        self.trainer.remove_callback(PrinterCallback)

    def run(self) -> None:
        """Takes all steps."""
        self.trainer.train()
