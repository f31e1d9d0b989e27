"""Time to a certified accuracy, against the other solvers: see README.md in this folder."""
