"""The answer to a search: shares of the singular components, how many ranks are enough, and ranks by a rule."""
