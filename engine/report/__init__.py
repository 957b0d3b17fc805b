"""A finished run, drawn from the files of its folder: page, pictures, last words."""
