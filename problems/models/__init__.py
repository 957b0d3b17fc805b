"""A base model with LoRA on it: loading, layers and their parts, what is trained whole."""
