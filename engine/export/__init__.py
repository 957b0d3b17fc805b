"""Write the result of a run in the forms that other programs load."""
