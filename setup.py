"""The part of the build that pyproject.toml cannot say: the wheel has the config files as ``lacuna/configs``.

In the repository they are at the top level, and nowhere else; an editable install uses them there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies ``configs/`` into the package."""

    def run(self) -> None:
        """Build the package, then copy the config files."""
        super().run()
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "lacuna" / "configs", ignore_errors=True)  # of an earlier build
            for source, target in self._configs().items():
                self.mkpath(os.path.dirname(target))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the wheel, the config files too."""
        copied = [] if self.editable_mode else list(self._configs().values())
        return [*super().get_outputs(include_bytecode), *copied]

    def _configs(self) -> dict[str, str]:
        """Config file -> its place in the build folder."""
        target = Path(self.build_lib) / "lacuna"
        return {str(path): str(target / path) for path in sorted(Path("configs").rglob("*.yaml"))}


setup(cmdclass={"build_py": BuildWithConfigs})
