"""What is LoRA in each layer worth, and which score of a search foretells it? See docs/places.md."""
