"""Houlsby's bottleneck adapters, trained like every other method."""

from transformers import PreTrainedModel

from autolora.configs import schema
from autolora.configs.training import AdapterSettings
from autolora.engine.export.beside import save_tokenizer
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain.methods.base import Method, Prepared, head_of
from autolora.engine.run.context import Context
from autolora.problems.models import bottleneck
from autolora.problems.models.load import BaseModel


def _settings(run: Context) -> AdapterSettings:
    assert isinstance(run.config, schema.Adapter)
    return run.config.adapter


class Adapter(Method):
    """Two bottlenecks in each block of a frozen model. Saves the bottlenecks, the layer norms and the head."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Inserts the bottlenecks. Raises UserError for a model that is neither BERT nor RoBERTa."""
        bottleneck.insert(base.model, _settings(run).bottleneck, head_of(base))
        return Prepared(base.model, head=head_of(base))

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes adapter/: bottleneck.safetensors and bottleneck.json, which problems/models/bottleneck.py loads."""
        assert isinstance(prepared.model, PreTrainedModel)
        bottleneck.save(prepared.model, _settings(run).bottleneck, prepared.head, run.folder.adapter)
        save_tokenizer(run.tokenizer, run.folder.adapter)
        return None
