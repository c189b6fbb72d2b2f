"""Optional settings of every training by steps: optimiser, weight decay, clipping, schedule, limits.

Each ``training`` mapping of a config has them, though no config file names them (:func:`with_training_options`). They
change numbers, so they are part of the recipe, but only where they differ from their default: a recipe without them is
the same as before they existed. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lacuna.errors import LacunaError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OPTIMIZERS = {
    "adam": ("betas",),
    "adamw": ("betas",),
    "nadam": ("betas",),
    "radam": ("betas",),
    "rmsprop": ("momentum",),
    "sgd": ("momentum",),
}
"""Optimisers by name -> the options that not all of them have."""
SCHEDULES = ("cosine", "linear")
LIMIT = "limit_batches"
"""The option that shortens a training."""


@dataclass(frozen=True)
class Option:
    """One optional setting.

    Args:
        default: the value with which it has no effect.
        needs: the allowed values besides the default, in words.
        allows: whether a value is one of them.
        meaning: one line for the reference.
    """

    default: Any
    needs: str
    allows: Callable[[Any], bool]
    meaning: str


def _number(value: Any, least: float, below: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < below


def _positive(value: Any) -> bool:
    return _number(value, 0) and value > 0


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_number(one, 0, 1) for one in value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


OPTIONS = {
    "optimizer": Option(
        "adam", f"one of {', '.join(OPTIMIZERS)}", lambda value: value in OPTIMIZERS, "The rule of an update, by name."
    ),
    "betas": Option(
        None,
        "null or two numbers from 0 to below 1, as in [0.9,0.999]",
        _pair,
        "Decay of the two moments of the Adam family; null: [0.9,0.999], of MisGAN and P-BiGAN [0.5,0.9].",
    ),
    "momentum": Option(
        0.0, "a number from 0 to below 1", lambda value: _number(value, 0, 1), "Momentum of sgd and rmsprop."
    ),
    "weight_decay": Option(
        0.0,
        "a number of at least 0",
        lambda value: _number(value, 0),
        "Of all trained weights; decoupled from the gradient in adamw, a term of the gradient in the others.",
    ),
    "gradient_clip": Option(
        None, "null or a number above 0", _positive, "Largest norm of the gradient of all weights of one optimiser."
    ),
    "gradient_clip_value": Option(
        None, "null or a number above 0", _positive, "Largest magnitude of a single value of the gradient."
    ),
    "schedule": Option(
        None,
        f"null or one of {', '.join(SCHEDULES)}",
        lambda value: value in SCHEDULES,
        "How the learning rate falls from lr to 0, step by step, in place of lr_milestones; null: lr_milestones.",
    ),
    "warmup": Option(
        0.0,
        "a number of epochs (0.5, say) of at least 0",
        lambda value: _number(value, 0),
        "First epochs, or a fraction of one, in which the learning rate grows linearly, step by step.",
    ),
    LIMIT: Option(None, "null or a whole number of at least 1", _count, "Most batches of an epoch; null: all."),
}
"""Name -> option."""


def with_training_options(config: DictConfig) -> DictConfig:
    """The config, changed in place: every ``training`` by steps has all options, missing ones with their defaults.

    Variants under ``light`` are left alone: they hold what they replace. A ``training`` without ``lr`` has no steps.
    """
    from omegaconf import DictConfig, open_dict  # not where a recipe is read

    for key in list(config):
        node = config._get_node(key)
        if key == "light" or not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
            continue
        if key == "training" and "lr" in node:
            with open_dict(node):
                for name, option in OPTIONS.items():
                    if name not in node:
                        node[name] = option.default
        else:
            with_training_options(node)
    return config


def chosen(training: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a training that are not at their defaults."""
    return {
        name: training[name]
        for name, option in OPTIONS.items()
        if name in training and not _same(training[name], option.default)
    }


def without_defaults(component: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """A training as it belongs in a recipe: its options checked, and those with their default value left out.

    Args:
        component: the key of the config that has the training.
        training: its settings.

    Raises:
        LacunaError: a value that is not allowed, or an option without effect.
    """
    given = chosen(training)
    for name, value in given.items():
        option, key = OPTIONS[name], f"{component}.training.{name}"
        if not option.allows(value):
            raise LacunaError(f"{key}={value} must be {option.needs}{_hint(name, value)}")
        optimizer = training.get("optimizer", "adam")
        owners = [one for one, own in OPTIMIZERS.items() if name in own]
        if owners and optimizer not in owners:
            raise LacunaError(
                f"{key}={value} has no effect with {component}.training.optimizer={optimizer}: "
                f"it is an option of {', '.join(owners)}."
            )
    if "gradient_clip" in given and "clip" in training:
        raise LacunaError(
            f"{component}.training.gradient_clip={given['gradient_clip']}: this method has that setting already, "
            f"{component}.training.clip={training['clip']}: set that one."
        )
    if given.get("warmup", 0) >= training["epochs"]:
        raise LacunaError(
            f"{component}.training.warmup={given['warmup']} must be smaller than {component}.training.epochs="
            f"{training['epochs']}."
        )
    found = {name: value for name, value in training.items() if name not in OPTIONS} | given
    # so that a recipe holds no milestones that are not used
    return found | ({"lr_milestones": []} if "schedule" in given else {})


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _hint(name: str, value: Any) -> str:
    choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}.get(name, ())
    near = difflib.get_close_matches(str(value).lower(), choices, 1)
    return f"; did you mean {near[0]}?" if near else "."
