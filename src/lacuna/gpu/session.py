"""The parts of one command on a GPU machine, one after another within a time limit."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from functools import partial
from typing import Any

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.gpu.cells import CellRuns, estimated_seconds
from lacuna.gpu.deadline import Clock
from lacuna.gpu.gpu_tests import run_tests
from lacuna.gpu.handover import pack_runs
from lacuna.gpu.options import Options
from lacuna.gpu.packed_data import DataPreparation
from lacuna.gpu.planning import plan_of
from lacuna.gpu.random_images import write_random_images
from lacuna.gpu.results import DONE, FAILED, STOPPED, Results
from lacuna.gpu.step_costs import StepCosts
from lacuna.runs.archive import FULL, archive_runs, pack
from lacuna.runs.recipe import Recipe
from lacuna.tables.plan import Plan
from lacuna.throughput.bench import LEVELS
from lacuna.throughput.pool import Pool
from lacuna.throughput.rows import best_number, load_rows, save_rows
from lacuna.throughput.step_kinds import kinds_of

ARCHIVE, RESUME = "archive.jsonl", "resume.tgz"
PREPARE_WITHIN = 300.0
"""Seconds for preparing the data sets."""


class Session:
    """The parts in their order. Later parts use the results of earlier ones.

    Args:
        options: of the command.
        clock: already running.
        results: writes the result files.
    """

    def __init__(self, options: Options, clock: Clock, results: Results) -> None:
        self.options, self.clock, self.results = options, clock, results
        # step times of this command and of earlier ones
        self._rows_file = options.work / "steps" / f"{options.budget}.json"
        self._hardware = str(results.about["machine"]["hardware"])
        self.rows = load_rows(self._rows_file, self._hardware)
        self.recipes: list[Recipe] = []
        self._composer = Composer(CONFIGS, "train", options.work / ".cache")
        names = options.cells if "cells" in options.parts else ()
        self.preparing = DataPreparation(options.data, options.work / "data", names)
        # planning and importing torch take a while: they happen while the tests run
        self._background = ThreadPoolExecutor(1)
        self._steps_plan = self._background.submit(self._plan_steps) if "steps" in options.parts else None
        self._pool = Pool(max(LEVELS))
        self._pool.start(int("steps" in options.parts))

    def run(self) -> bool:
        """Do the parts, also those after a failed one; whether all succeeded."""
        parts: dict[str, Callable[[], bool]] = {
            "tests": self._tests,
            "steps": self._steps,
            "cells": self._cells,
            "archive": self._archive,
        }
        succeeded = []
        try:
            for part in self.options.parts:
                seconds = self.clock.begin(part)
                self.clock.log(f"{part}: up to {seconds:.0f} s")
                succeeded.append(self._guarded(part, parts[part]))
                self.clock.log(self.results.lines.get(part, part))
        finally:
            self.preparing.close()
            self._pool.close()
            self._background.shutdown(wait=False, cancel_futures=True)
        self.clock.part = ""
        self.clock.log(f"results: {self.options.output}")
        return all(succeeded)

    def _guarded(self, part: str, work: Callable[[], bool]) -> bool:
        try:
            return work()
        except Exception as error:
            trace = [] if isinstance(error, LacunaError) else traceback.format_exc().splitlines()
            reason = " ".join(str(error).split()) or type(error).__name__
            self.results.write(part, FAILED, reason, {"traceback": trace})
            return False
        except KeyboardInterrupt:
            if part != "archive" and "archive" in self.options.parts:  # of what is done so far
                self._guarded("archive", self._archive)
            raise

    def _writer(self, part: str) -> Callable[[str, str, dict[str, Any]], None]:
        return partial(self.results.write, part)

    def _plan_steps(self) -> Plan:
        """Plan the runs whose steps are timed, on random images."""
        options, work = self.options, self.options.work / "steps"
        write_random_images(work / "data")
        more = {"accelerator": options.accelerator}
        return plan_of(options.tables, self._composer, options.budget, work / "data", work, more)

    def _tests(self) -> bool:
        return run_tests(self.clock, self.options.work, self._writer("tests"))

    def _steps(self) -> bool:
        options, work = self.options, self.options.work / "steps"
        assert self._steps_plan is not None
        try:
            plan = self._steps_plan.result(timeout=max(0.1, self.clock.part_left))
        except TimeoutError:
            self.results.write(
                "steps", STOPPED, "the runs were not planned in time: set a higher limit with minutes=...", {}
            )
            return True
        kinds, others = kinds_of(run.recipe for run in plan.runs.values())
        self.clock.log(f"steps: {len(plan.runs)} runs, {len(kinds)} kinds of steps, {others} runs without steps")
        step_costs = StepCosts(
            kinds,
            others,
            self.clock,
            self._writer("steps"),
            root=work / "data",
            work=work,
            accelerator=options.accelerator,
            seconds=options.seconds,
            pool=self._pool,
            rows=self.rows,
        )
        try:
            return step_costs.run()
        finally:
            save_rows(self._rows_file, self._hardware, self.rows)

    def _cells(self) -> bool:
        options = self.options
        missing = self.preparing.wait(min(PREPARE_WITHIN, self.clock.part_left))
        if set(missing) >= set(options.cells):
            reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
            self.results.write("cells", FAILED, f"no data set is prepared ({reasons})", {"missing_data": missing})
            return options.data is None
        cell_runs = CellRuns(
            self.clock,
            self._writer("cells"),
            self._composer,
            work=options.work,
            budget=options.budget,
            accelerator=options.accelerator,
            sets=options.cells,
            missing=missing,
            number=options.runs or best_number(self.rows),
            seconds=lambda recipe: estimated_seconds(recipe, self.rows),
        )
        self.recipes = cell_runs.recipes()
        return cell_runs.run()

    def _archive(self) -> bool:
        options, archive = self.options, self.options.work / "results"
        budgets = FULL if options.budget == "paper" else (options.budget,)
        report = archive_runs(options.work, archive, budgets=budgets)
        number = pack(archive, options.output / ARCHIVE)
        packed, left_out = pack_runs(self.recipes, options.work, options.output / RESUME)
        content = {"runs": number, "report": report.lines, "to_go_on": packed, "too_large_to_go_on": left_out}
        line = f"{number} finished runs in {ARCHIVE}; {len(packed)} runs in {RESUME} to go on from"
        line += f", {len(left_out)} are too large for it" if left_out else ""
        self.results.write("archive", DONE, line, content)
        return not report.refused
