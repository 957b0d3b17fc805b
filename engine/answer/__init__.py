"""What a search says: the shares of the singular components, how many ranks are enough, and the ranks by a rule."""
