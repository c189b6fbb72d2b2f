"""Tables of results as plans and numbers: specification, plan, what runs say, significance. Imports no torch.

May import ``runs``, ``data``, ``config`` and the ground; executors, report and verbs import it.
"""
