"""Where runs happen: inline, several processes, Ray; the schedule of a graph of runs and its live view.

May import tables, training and below. One file and one config in ``configs/executor`` for each executor.
"""
