"""Read data: users' files and the hub's data sets, checked row by row."""
