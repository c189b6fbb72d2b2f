"""An extension of Griffe, which reads docstrings for the documentation site: Sphinx's roles are left out.

``:class:`MFA``` becomes ```MFA```; the colon would otherwise be read as the end of a type.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLES = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")


class Roles(griffe.Extension):  # type: ignore[misc, unused-ignore]
    """Applied to every object with a docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Mend the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = ROLES.sub(r"`\1`", obj.docstring.value)
