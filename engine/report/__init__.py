"""Show a run from the files of its folder: report.html, pictures, and the summary in the terminal."""
