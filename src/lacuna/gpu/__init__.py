"""One command on a machine with a GPU: its tests, what a step costs, and results at the papers' budget."""
