"""For scripts: `from autolora import learn_ranks, learn_ranks_from_trainer, measure_adapter`
(docs/api.md)."""
