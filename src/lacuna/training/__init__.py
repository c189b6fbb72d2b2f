"""How a task is trained: one run from recipe to metrics, checkpoints, devices and ranks, loggers, progress.

May import tasks and everything below them; executors start it in processes of their own.
"""
