"""MCFlow and PRFlow: the training task, its alternating step, the prior, the schedule and the imputed training set.

Outside this package only :class:`TrainMCFlow` is needed; the model itself is :mod:`lacuna.imputers.mcflow`.
"""

from lacuna.tasks.mcflow.task import TrainMCFlow

__all__ = ["TrainMCFlow"]
