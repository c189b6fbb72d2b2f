"""Where runs are done: one after another, in several processes, or on Ray; schedule and view of a graph of runs.

May import tables, throughput, training and below. One file and one config in ``configs/executor`` for each executor.
"""
