"""The result of a search that a script asked for."""

from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig

from autolora.configs.schema import Autolora
from autolora.engine import ranks
from autolora.engine.export.lora_config import save_lora_config
from autolora.engine.measure.evidence import CurvePoint
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.words import caution, conclusion, curve_lines, gain_words, share_lines
from autolora.engine.run.folder import RunFolder


@dataclass(frozen=True)
class LearnedRanks:
    """The result of a search. Printed, it says which rank is enough, and the share of each layer.

    `lora_config`: a LoraConfig of PEFT with the learned ranks, for `get_peft_model` or a trainer's `peft_config`.
    `record`: the content of ranks.json.
    """

    lora_config: LoraConfig
    record: RankRecord
    config: Autolora
    """The settings of the search."""

    @property
    def ranks(self) -> dict[str, int]:
        """Name of a layer in the base model -> its rank; a layer of rank 0 gets no LoRA."""
        return self.record.ranks

    @property
    def shares(self) -> dict[str, tuple[float, float]] | None:
        """Layer -> its share and the share's standard error, in nats per label; None if shares were not measured.

        The shares divide among the layers what LoRA gains on the validation rows over the head alone."""
        found = {
            layer.name: (layer.layer_share, layer.layer_share_standard_error)
            for layer in self.record.layers
            if layer.layer_share is not None and layer.layer_share_standard_error is not None
        }
        return found or None

    @property
    def curve(self) -> tuple[CurvePoint, ...] | None:
        """The validation loss with the same rank in every layer, and the part of LoRA's gain that this rank keeps.

        A point for each rank (`at`), rising; None if the curve was not measured."""
        return None if self.record.evidence is None else self.record.evidence.rank_curve

    def save(self, folder: str | Path) -> None:
        """Writes ranks.json and lora_config/, as in a run's folder; overwrites earlier ones."""
        place = RunFolder(Path(folder))
        place.root.mkdir(parents=True, exist_ok=True)
        save_lora_config(self.lora_config, self.record, place.lora_config, self.config)
        ranks.save(self.record, place.ranks)

    def __str__(self) -> str:
        evidence = self.record.evidence
        lines = [f"ranks by {self.record.rule}: mean {self.record.mean_in_words}"]
        if evidence is not None:
            lines += [gain_words(evidence), *curve_lines(self.record), conclusion(self.record)]
            lines += [f"({words})"] if (words := caution(self.record)) else []
            lines += share_lines(self.record)
        return "\n".join([*lines, *([self.record.note] if self.record.note else [])])
