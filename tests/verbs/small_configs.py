"""A small folder of configs for tests of the command line."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "train.yaml": """
        # Train a part from incomplete images.
        #
        # The default is the embedded digits.
        defaults:
          - _self_
          - mask: square
          - experiment: null
        seed: 0
        task: {lr: 1e-3, epochs: 3, optimizer: adam, milestones: [1, 2]}
        compile: false
        limit: null
        folder: runs/${seed}
        owner: me
        """,
    "mask/square.yaml": "{name: square, fraction: 0.5}",
    "mask/noise.yaml": "{name: noise, rate: 0.75}",
    "experiment/digits_misconv.yaml": """
        # @package _global_
        # MisConv on the digits: the quickest experiment.
        defaults:
          - override /mask: noise
        task: {epochs: 9}
        """,
    "experiment/digits_zero.yaml": "# @package _global_\n",
    "judge.yaml": """
        # Judge.
        defaults:
          - _self_
          - mask: null
        run: null
        """,
    "imputer/zero.yaml": "{name: zero}",
}


def write_configs(folder: Path) -> Path:
    """Write the configs into a folder; the folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[indent:] for line in lines) + "\n")
    return folder
