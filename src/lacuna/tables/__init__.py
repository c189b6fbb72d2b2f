"""Tables of results without their looks: specification, plan of runs, gathered numbers, significance. Imports no torch.

May import ``runs``, ``data``, ``config``, the measurements of ``throughput`` and the ground; executors, report and
verbs import it.
"""
