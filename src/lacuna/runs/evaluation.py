"""The name of an evaluation: a finished run on another mask or split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def evaluation_name(mask: Mapping[str, Any], split: str) -> str:
    """``noise-test-1a2b3c4d``: the stem of its file in a run's ``evaluations/``.

    Args:
        mask: the config of the mask scheme.
        split: ``test`` or ``validation``.
    """
    text = json.dumps({"split": split, "mask": mask}, sort_keys=True)
    return f"{mask['name']}-{split}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
