"""What the benchmark of the service tells: tables and goals for people, facts for programs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from _load import Outcome


@dataclass(slots=True)
class Report:
    """facts: by part, for programs. missed: the goals that were. as_json: standard output is for the facts alone."""

    as_json: bool
    facts: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """A line for people."""
        print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def fail(self, part: str, reason: str) -> None:
        """A part that couldn't be measured misses its goals."""
        self.say(f"{part}: {reason}: MISSED")
        self.missed.append(f"{part}: {reason}")

    def table(self, part: str, runs: Mapping[str, Outcome]) -> None:
        """What came of runs, by name; a request that failed misses a goal."""
        self.say("| | answers/s | p50 | p95 | p99 ms | answers | failed | generator |")
        self.say("|---|---|---|---|---|---|---|---|")
        for name, run in runs.items():
            times = " | ".join(f"{run.percentile(share):.2f}" for share in (50, 95, 99))
            counts = f"{len(run.latencies)} | {run.failed.total()}"
            self.say(f"| {name} | {run.rate:.1f} | {times} | {counts} | {run.busy:.0%} of a core |")
        self._facts(part)["runs"] = {name: run.facts() for name, run in runs.items()}
        for name, run in runs.items():
            self.goal(part, f"{name}: requests that failed", run.failed.total(), 0)
            if run.failed:
                self.say(f"  {dict(run.failed)}; the first: {run.example}")

    def goal(self, part: str, name: str, value: float, goal: float, *, least: bool = False) -> None:
        """A value beside its goal: at most that, or at least."""
        reached = value >= goal if least else value <= goal
        found = {"value": value, "goal": goal, "reached": reached}
        self._facts(part).setdefault("goals", {})[name] = found
        if not reached:
            self.missed.append(f"{part}: {name}")
        if goal or not reached:  # that nothing failed goes without saying
            sign = ">=" if least else "<="
            self.say(f"{name}: {value:.3g} (goal {sign} {goal:g}): {'reached' if reached else 'MISSED'}")

    def fact(self, part: str, name: str, value: object) -> None:
        """A fact for programs alone."""
        self._facts(part)[name] = value

    def _facts(self, part: str) -> dict[str, Any]:
        found: dict[str, Any] = self.facts.setdefault(part, {})
        return found
