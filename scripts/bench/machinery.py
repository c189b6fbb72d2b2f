"""Overhead of the framework: start, planning, finished runs.

    python scripts/bench/machinery.py [start] [plan] [store] [--turns 3]

Every part runs in a separate process and prints a row. All but the first measure processor time of one thread, which
other load on the machine hardly changes.

* start: seconds from ``train.py experiment=digits_zero`` to its first training step, by stage, and seconds of the whole
  command where the run is finished;
* plan: seconds and memory to plan every table of both papers, and to plan 10 000 cells;
* store: time per finished run of 1000, to find it done when planning, and to read it for a table.

Exits with 1 if 10 000 cells take more than a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CELLS, RUNS = 10_000, 1000
MOST_SECONDS = 60.0


def show(**row: Any) -> None:
    from lacuna.drawing.text_table import text_table

    print(text_table([{key.replace("_", " "): value for key, value in row.items()}], digits=2), flush=True)


def start(turns: int, place: Path) -> bool:
    """The fastest of some starts. A first one, not counted, prepares the digits."""
    words = [
        f"data.root={place / 'data'}",
        f"output={place / 'out'}",
        "experiment=digits_zero",
        "trainer.progress=false",
    ]
    best: dict[str, float] = {}
    for turn in range(turns + 1):
        command = [sys.executable, str(ROOT / "scripts/bench/_first_step.py"), *words]
        environment = {**os.environ, "BENCH_START": repr(time.time())}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        marks = json.loads(done.stdout.splitlines()[-1])
        if turn and (not best or max(marks.values()) < max(best.values())):
            best = marks
    ends = [0.0, *best.values()]
    stages = {name: end - begin for name, begin, end in zip(best, ends[:-1], ends[1:], strict=True)}
    show(command_to_first_step_s=ends[-1], **{f"{name} (s)": seconds for name, seconds in stages.items()})
    train = [sys.executable, str(ROOT / "train.py"), *words, "budget=smoke"]
    finished = min([wall(train) for _ in range(turns + 1)][1:])  # the first one trains
    show(**{"finished run, command to its end (s)": finished})
    return True


def wall(command: list[str]) -> float:
    """Seconds that a command took."""
    begin = time.time()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    return time.time() - begin


def plan(turns: int, place: Path) -> bool:
    """Every published table, and a table of 10 000 cells."""
    from _setup import grid, run_options, tables, write_random_data  # type: ignore[import-not-found]

    from lacuna.config.composer import Composer
    from lacuna.config.paths import CONFIGS
    from lacuna.tables.plan import plan_tables

    write_random_data(place / "data")
    wanted = run_options(place / "data", place / "out")
    specs = tables("all", Composer(CONFIGS, "reproduce"))
    seconds = []
    for _ in range(2):  # the second turn finds the compositions of the first one on disk
        composer = Composer(CONFIGS, "train", place / "cache")
        seconds.append(timed(lambda composer=composer: plan_tables(specs, composer, wanted))[0])  # type: ignore[misc]
        composer.save()
    every = plan_tables(specs, composer, wanted)
    before = peak_mb()
    side = round(CELLS**0.5)
    took, many = timed(lambda: plan_tables([grid(side, CELLS // side)], composer, wanted))
    row = {
        f"table=all, {sum(len(table.cells) for table in every.tables)} cells, {len(every.runs)} runs (s)": seconds[0],
        "again (s)": seconds[1],
        f"{len(many.tables[0].cells)} cells, {len(many.runs)} runs (s)": took,
        "peak memory (MB)": round(peak_mb()),
        "before (MB)": round(before),
    }
    show(**row)
    return took < MOST_SECONDS


def store(turns: int, place: Path) -> bool:
    """The same plan with nothing done and with everything done."""
    from _setup import finish, run_options, write_random_data

    from lacuna.config.composer import Composer
    from lacuna.config.paths import CONFIGS
    from lacuna.tables.gather import gather
    from lacuna.tables.plan import find_states, plan_tables
    from lacuna.tables.spec import table_spec

    write_random_data(place / "data")
    composer = Composer(CONFIGS, "train")
    table = table_spec(
        {
            "name": "bench/seeds",
            "title": "Many seeds",
            "metric": "test/accuracy",
            "cell": ["experiment=digits_{row}"],
            "rows": {"zero": {}},
            "columns": {"digits": {}},
        }
    )
    wanted = run_options(place / "data", place / "out", seeds=RUNS)
    made = plan_tables([table], composer, wanted)
    finish(made)
    looking = min(timed(lambda: find_states(made))[0] for _ in range(turns))
    planning, again = min((timed(lambda: plan_tables([table], composer, wanted)) for _ in range(turns)), key=first)
    reading = min(timed(lambda: gather(again))[0] for _ in range(turns))
    row = {
        "finished runs": RUNS,
        "plan and find them done (ms)": 1e3 * planning,
        "to find a run done (us)": 1e6 * looking / RUNS,
        "to read its numbers (us)": 1e6 * (reading - looking) / RUNS,
    }
    show(**row)
    return not again.unfinished()


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor that a call took, and its result."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def first(pair: tuple[float, Any]) -> float:
    return pair[0]


def peak_mb() -> float:
    """Peak memory of this process in MB (the kernel counts in KiB, macOS in bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


PARTS: dict[str, Callable[[int, Path], bool]] = {"start": start, "plan": plan, "store": store}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="in this process (one part)")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]}: choose from {', '.join(PARTS)}")
    if options.here:
        with tempfile.TemporaryDirectory() as place:
            return 0 if all(PARTS[part](options.turns, Path(place)) for part in options.parts) else 1
    codes = []
    for part in options.parts or PARTS:
        command = [sys.executable, __file__, part, "--here", "--turns", str(options.turns)]
        codes.append(subprocess.run(command).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
