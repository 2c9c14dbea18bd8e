"""One run: its options, the systems that are up, and what was measured so far.

Law: a sample is kept as it was measured, with its round; medians and ratios are made of samples
afterwards. A ratio is taken within each round, where a noisy spell met both, and only then is the
median of the rounds taken.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from benchmarks.process import Child
from benchmarks.systems import ceiling, etcd, nodes, pysyncobj

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Options:
    """How much is measured."""

    threads: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 3
    seconds: float = 2.5
    warm: float = 0.5
    many: int = 64  # threads where one number of them must do
    entries: int = 1_000_000  # of the log that a start reads
    kills: int = 5
    minutes: float = 30.0  # of the long run, which is not part of the default one
    pipeline_seconds: float = 5.0


@dataclass(slots=True, frozen=True)
class Sample:
    """One measurement."""

    part: str
    what: str
    round: int
    figures: dict[str, float]


@dataclass(slots=True)
class Found:
    """All measurements, and what is to be said about them."""

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, run: dict[str, Any]) -> Found:
        """Take it from what a run wrote as JSON."""
        return cls([Sample(**sample) for sample in run["samples"]], list(run["notes"]))

    def values(self, part: str, what: str, figure: str) -> dict[int, float]:
        """One figure, by round."""
        return {
            sample.round: sample.figures[figure]
            for sample in self.samples
            if (sample.part, sample.what) == (part, what) and figure in sample.figures
        }

    def middle(self, part: str, what: str, figure: str) -> float | None:
        """The median of the rounds; None where it was not measured."""
        values = self.values(part, what, figure)
        return median(values.values()) if values else None

    def ratio(self, part: str, what: str, to: str, figure: str) -> float | None:
        """The median, over the rounds, of *what* divided by *to*."""
        above, below = self.values(part, what, figure), self.values(part, to, figure)
        both = [above[one] / below[one] for one in above if below.get(one)]
        return median(both) if both else None


class Suite:
    """What the parts of a run share."""

    def __init__(self, options: Options, directory: Path) -> None:
        """Nothing is up yet; whatever comes up writes to *directory*."""
        self.options = options
        self.directory = directory
        self.found = Found()
        self._up = ExitStack()

    # --- systems that several parts use, started when first asked for ---------------------------

    def up(self, system: AbstractContextManager[T]) -> T:
        """Keep *system* up until the end of the run."""
        return self._up.enter_context(system)

    @cached_property
    def ceiling(self) -> ceiling.Ceiling:
        """The ceiling."""
        return self.up(ceiling.running(self.directory / "ceiling"))

    @cached_property
    def nodes(self) -> nodes.Cluster:
        """Three durable nodes."""
        return self.up(nodes.running(self.directory / "nodes"))

    @cached_property
    def callers(self) -> Child:
        """A process of callers of them."""
        return self.up(nodes.callers(self.nodes))

    @contextmanager
    def pysyncobj(self) -> Iterator[pysyncobj.Cluster | None]:
        """Have PySyncObj for a moment; None, with a note, where it is not installed.

        Tuned, it looks for work a thousand times a second in each of its processes, and would take
        a part of the machine from whatever else is measured.
        """
        if not pysyncobj.is_installed():
            self.note("PySyncObj is not installed and was skipped: pip install 'tinyraft[bench]'")
            yield None
            return
        with pysyncobj.running() as cluster:
            yield cluster

    @cached_property
    def etcd(self) -> etcd.Cluster | None:
        """etcd; None, with a note, where it is not on the path."""
        if not etcd.is_installed():
            self.note("etcd is not on the path and was skipped")
            return None
        return self.up(etcd.running(self.directory / "etcd"))

    def close(self) -> None:
        """End everything."""
        self._up.close()

    # --- measuring --------------------------------------------------------------------------------

    def rounds(self) -> Iterator[int]:
        """Count the rounds."""
        yield from range(self.options.rounds)

    def how(self, threads: int) -> dict[str, object]:
        """Say how a load is to run."""
        return {"threads": threads, "seconds": self.options.seconds, "warm": self.options.warm}

    def take(self, part: str, what: str, round_: int, figures: dict[str, float]) -> None:
        """Keep a measurement, and show it to who waits."""
        self.found.samples.append(Sample(part, what, round_, figures))
        shown = "  ".join(f"{name} {value:,g}" for name, value in figures.items())
        print(f"[{part}] {what}, round {round_ + 1}: {shown}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Keep something that must be said beside the figures; once."""
        if text in self.found.notes:
            return
        self.found.notes.append(text)
        print(f"note: {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    """Describe where it was measured, and what else was going on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "processors": os.cpu_count(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }
