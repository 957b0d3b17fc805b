"""What is LoRA in each layer worth, and which score of a search tells it beforehand? docs/places.md describes it."""
