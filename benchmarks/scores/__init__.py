"""Scores of layers that the program does not have, measured after finished searches. See docs/places.md."""
