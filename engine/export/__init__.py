"""The result as other programs load it."""
