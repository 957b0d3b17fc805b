"""The retraining: plain LoRA, or a baseline, with one trainer; its trials, and the evaluation."""
