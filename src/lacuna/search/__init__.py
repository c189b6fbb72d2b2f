"""Hyper-parameter search: trials are ordinary runs, proposed by Optuna and trained by the executors of the tables.

May import everything below the verbs; ``verbs.sweep`` imports it.
"""
