"""One command on a machine with a GPU: its tests, what a step costs, and results at the papers' budget.

The top floor: may import everything; only ``scripts/gpu.py`` imports it.
"""
