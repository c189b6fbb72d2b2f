"""MCFlow and PRFlow: the task, its alternating step, and the imputed training set it goes on from."""

from lacuna.tasks.mcflow.task import TrainMCFlow

__all__ = ["TrainMCFlow"]
