"""The retraining: plain LoRA, or a baseline, with one trainer; then the evaluation, the adapter and
metrics.json."""
