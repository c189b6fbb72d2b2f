"""Migration of recipes from version 2 to version 3, which renames keys and types, so that measured numbers stay valid.

Only names change, not the numbers of a run; its identity changes. :mod:`lacuna.training.migrate` applies this to
archive files and run folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lacuna.errors import LacunaError
from lacuna.runs.evaluation import evaluation_name
from lacuna.runs.recipe import PLACES, VERSION, Recipe

EARLIER = 2
"""The version that can be migrated."""

KEYS = {
    "needs": "prerequisites",
    "hide": "hold_out",
    "hole": "missing_square",
    "coupled": "gradients",
    "fill": "initial",
    "guess": "estimate",
    "known_weight": "reconstruction_weight",
    "renew": "reset_flow",
    "rounds": "inference_passes",
}
"""Keys anywhere in a recipe of version 2 -> their names in version 3."""

TYPES = {
    "classify.Classify": "classifier.TrainClassifier",
    "density.TrainDensity": "dmfa.TrainDMFA",
    "fit_density.FitDensity": "smfa.FitSMFA",
    "flow.TrainFlow": "acflow.TrainACFlow",
    "generate.Generate": "wae.TrainWAE",
    "mean_of.DensityMean": "density_mean.DensityMean",
}
"""Values of ``type`` in a recipe of version 2 -> those in version 3."""

MODULES = {
    "stem.front": "stem.frozen",
    "alternation": "alternating",
    "boards": "checkerboards",
    "coarser": "down",
    "enter": "input",
    "finer": "up",
    "halves": "coupling_masks",
    "inform": "context",
    "inwards": "encoder",
    "kept": "mask",
    "leave": "output",
    "means.nll": "means.flow_nll",  # before the next
    "means.unlikely": "means.nll",
    "means.unfaithful": "means.reconstruction",
    "means.rough": "means.prior",
    "middle": "hidden",
    "outwards": "decoder",
    "seen": "image",
    "shown": "donor_mask",
    "watched": "imputed_validation",
}
"""Modules and buffers (dotted, at any depth) that version 2 stored under another name -> their names in version 3,
applied in this order."""

NESTED = "needs"
"""Key of a recipe of version 2 that holds whole recipes, by the component that they train."""


def migrate(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of version 2 in version 3; one of version 3 unchanged.

    Args:
        recipe: plain JSON, not changed.

    Raises:
        LacunaError: a recipe of another version, or one that has both the old and the new name of a key.
    """
    version = recipe.get("version")
    if version == VERSION:
        return dict(recipe)
    if version != EARLIER:
        raise LacunaError(f"recipes of version {version} cannot be migrated, only those of version {EARLIER}.")
    migrated: dict[str, Any] = renamed({key: value for key, value in recipe.items() if key != NESTED})
    if NESTED in recipe:  # its keys are names of components
        migrated["prerequisites"] = {component: migrate(nested) for component, nested in recipe[NESTED].items()}
    return {**migrated, "version": VERSION}


def renamed(value: Any) -> Any:
    """A value of a recipe with all keys and types in it renamed, at every depth.

    Raises:
        LacunaError: a mapping has both the old and the new name of a key.
    """
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            name: str = KEYS.get(str(key), str(key))
            if name in found or (name != key and name in value):
                raise LacunaError(f"a recipe has both {name!r} and its earlier name: this cannot be migrated.")
            if key == "type" and isinstance(inner, str):
                found[name] = TYPES.get(inner, inner)
            else:
                found[name] = renamed(inner)
        return found
    if isinstance(value, list):
        return [renamed(inner) for inner in value]
    return value


def renamed_weight(name: str) -> str:
    """The name in version 3 of a weight or module that version 2 called ``name``."""
    for old, new in MODULES.items():
        name = re.sub(rf"(^|\.){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", name)
    return name


def identity(recipe: Mapping[str, Any]) -> str:
    """The identity of a recipe by the rules of its own version."""
    return Recipe(_without_places(recipe)).identity


def migrate_evaluation(name: str, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and record in version 3 of an evaluation of a run on another mask or split.

    Raises:
        LacunaError: its mask cannot be migrated.
    """
    mask, split = renamed(record["mask"]), record["split"]
    named_by_hand = name != evaluation_name(record["mask"], split)
    return name if named_by_hand else evaluation_name(mask, split), {**record, "mask": mask}


def migrate_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A file of the archive (:mod:`lacuna.runs.archive_record`) in version 3; one of version 3 unchanged.

    Raises:
        LacunaError: its recipe or an evaluation cannot be migrated, or its name is not that of its recipe.
    """
    earlier = record["recipe"]
    if earlier["version"] == VERSION:
        return dict(record)
    recipe = migrate(earlier)
    if not str(record["name"]).endswith(f"-{identity(earlier)}"):
        raise LacunaError(f"it is damaged (its recipe is not that of {record['name']}).")
    evaluations = dict(migrate_evaluation(*item) for item in record["evaluations"].items())
    return {**record, "name": Recipe(recipe).name, "recipe": recipe, "evaluations": evaluations}


def _without_places(recipe: Mapping[str, Any]) -> dict[str, Any]:
    found = {**recipe, "data": {key: value for key, value in recipe["data"].items() if key not in PLACES}}
    if NESTED in recipe:
        found[NESTED] = {component: _without_places(nested) for component, nested in recipe[NESTED].items()}
    return found
