"""Peak memory of every kind of run at the papers' sizes of images, networks and batches, in a few steps.

    python scripts/bench/memory.py [--only celeba64_wae ...] [--threads 1]

Every run is the real command in a separate process, on random images of the right shape: two training steps, then
the evaluation of one batch. Printed are the peak memory of the process, and the memory of the complete data set as
bytes, which stays in memory by default (``trainer.resident_gb``). The cache of a density's outputs adds up to
``trainer.cache_gb`` (4). Exits with 1 if a run needs more than 24 GiB in all.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.data.prepared import Arrays, Description, write
from lacuna.drawing.text_table import text_table
from lacuna.runs.budget import source_of

GIB = 2.0**30
AT_MOST = 24.0
TRAIN = Path(__file__).resolve().parents[2] / "train.py"
FEWER = ("data.test_images=130",)  # a flow imputes each image 8 times: as many as it does at once
CASES: dict[str, tuple[str, ...]] = {
    "mnist_dmfa": (),
    "svhn_dmfa": (),
    "celeba64_dmfa": (),
    "mnist_smfa": (),
    "celeba64_smfa": (),
    "mnist_flow": FEWER,
    "cifar10_flow": FEWER,
    "celeba64_flow": FEWER,
    "mnist_misconv": (),
    "svhn_misconv": (),
    "cifar10_misconv": (),
    "mnist_wae": (),
    "svhn_wae": (),
    "celeba64_wae": (),
}
"""Experiment -> further overrides."""


def write_random_images(root: Path, data: dict[str, Any], images: int) -> tuple[int, int]:
    """Prepare random images under the data set's name; bytes per image and number of images of the published set."""
    source = source_of(data)
    splits = {}
    for split, n in (("train", images), ("validation", 10), ("test", 250)):
        pixels = np.random.default_rng(n).integers(0, 256, (n, *source.shape), dtype=np.uint8)
        splits[split] = Arrays(pixels, None if source.classes is None else np.arange(n) % source.classes)
    if not (source.folder(root) / "provenance.json").exists():
        write(
            source.folder(root), Description(source.set_name, source.classes, "random numbers", complete=False), splits
        )
    return int(np.prod(source.shape)), sum(source.official_counts.values())


def peak(words: list[str]) -> float:
    """Peak memory of a command in GiB.

    Raises:
        SystemExit: the command failed.
    """
    code = f"""
import resource, subprocess, sys
done = subprocess.run([sys.executable, {str(TRAIN)!r}, *{words!r}], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"train.py {' '.join(words)} failed.")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout.split()[-1]) * unit / GIB


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows, most = [], 0.0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name in options.only:
            config = compose(CONFIGS, "train", [f"experiment={name}", *CASES[name]])
            part = "net" if config["task"]["name"] in ("classify", "generate") else config["task"]["name"]
            batch = config[part]["training"]["batch_size"]
            each, images = write_random_images(root / name, config["data"], 2 * max(batch, 128))
            words = [f"experiment={name}", *CASES[name], f"data.root={root / name}", f"output={root / 'out'}"]
            words += [f"data.train_images={2 * batch}", "data.validation_images=10"]
            words += [] if CASES[name] else ["data.test_images=250"]
            words += [f"{part}.training.epochs=1", "density.training.epochs=1", "flow.training.epochs=1"]
            words += ["data.download=false", "trainer.progress=false", f"trainer.threads={options.threads}"]
            words += ["trainer.accelerator=cpu", *(["features=none"] if config["task"]["name"] == "generate" else [])]
            found, resident = peak(words), each * images / GIB
            most = max(most, found + resident + config["trainer"]["cache_gb"] * 1e9 / GIB)
            rows.append(
                {
                    "run": name,
                    "images a step": str(batch),
                    "peak of the process (GiB)": f"{found:.2f}",
                    "the whole set as bytes (GiB)": f"{resident:.2f}",
                }
            )
            print(text_table(rows[-1:]), flush=True)
    print(text_table(rows))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    print(f"this process itself: {own:.2f} GiB; with the whole set and a full cache at most {most:.1f} GiB")
    return 0 if most < AT_MOST else 1


if __name__ == "__main__":
    sys.exit(main())
