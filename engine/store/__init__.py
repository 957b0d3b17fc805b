"""Results of stages in a run's folder: reused if their inputs are equal, resumed if half done,
refused if they were made from something else, and put aside if they are made anew."""
