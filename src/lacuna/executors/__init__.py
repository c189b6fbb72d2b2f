"""Executors: where the runs of a graph are trained. One file each, one config each in ``configs/executor``."""
