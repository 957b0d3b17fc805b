"""Stage A of a study of places: what is LoRA in each layer worth, and which score of a search tells it beforehand?"""
