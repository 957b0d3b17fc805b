"""A run, a study or an adapter as a page, as pictures, and as a summary in the terminal."""
