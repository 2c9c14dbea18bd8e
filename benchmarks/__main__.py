"""Beside the ceiling: what three durable nodes reach on this machine, and what issue 7 asks for.

usage: python -m benchmarks [--only threads,reads] [--rounds 3] [--seconds 2.5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from benchmarks import plot, report
from benchmarks.goals import Goal, goals
from benchmarks.parts import DEFAULT, NEED_PROC, PARTS
from benchmarks.suite import Found, Options, Suite, machine

SMOKE = Options(
    threads=(1, 4),
    rounds=1,
    seconds=0.2,
    warm=0.05,
    many=4,
    entries=5_000,
    kills=1,
    minutes=0.02,
    pipeline_seconds=0.2,
)


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    assert __doc__, "it has one"
    whole = Options()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"of {','.join(PARTS)}; default: all but long")
    parser.add_argument("--smoke", action="store_true", help="does it work? figures mean nothing")
    parser.add_argument("--threads", help="default: 1,16,64,256")
    parser.add_argument("--rounds", type=int, help=f"default: {whole.rounds}")
    parser.add_argument("--seconds", type=float, help=f"of each load; default: {whole.seconds}")
    parser.add_argument("--minutes", type=float, help=f"of the long run; default: {whole.minutes}")
    parser.add_argument("--entries", type=int, help=f"of a start; default: {whole.entries}")
    parser.add_argument("--kills", type=int, help=f"of leaders; default: {whole.kills}")
    parser.add_argument("--pipeline-seconds", type=float, help="of many commands in flight")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: temporary")
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--read", type=Path, help="measure nothing; show what --json wrote")
    parser.add_argument("--into", type=Path, help="put the tables between the marks of a file")
    parser.add_argument("--svg", type=Path, help="draw threads there (needs matplotlib)")
    return parser.parse_args(arguments)


def options_of(given: argparse.Namespace) -> Options:
    """Put what was given over the defaults."""
    base = asdict(SMOKE if given.smoke else Options())
    changed = {name: value for name, value in vars(given).items() if name in base and value}
    if given.threads:
        changed["threads"] = tuple(int(count) for count in given.threads.split(","))
    return Options(**{**base, **changed})


def main() -> None:
    """Measure, or read what was measured, and tell."""
    given = read_options()
    if given.read is not None:
        run = json.loads(given.read.read_text())
        about, options, found = run["machine"], run["options"], Found.of(run)
    else:
        about, options, found = machine(), asdict(options_of(given)), measure(given)
    judged = goals(found)
    text = report.whole(found, judged, about=about)
    print(text)
    if given.into is not None:
        report.put_into(given.into, text)
    if given.json is not None:
        rows = [as_row(goal) for goal in judged]
        value = {"machine": about, "options": options, **asdict(found)}
        given.json.write_text(json.dumps({**value, "goals": rows}, indent=1) + "\n")
    if given.svg is not None:
        if plot.is_possible():
            plot.draw(found, given.svg)
        else:
            print("no picture: matplotlib is not installed", file=sys.stderr)


def measure(given: argparse.Namespace) -> Found:
    """Take the parts one after the other; whatever happens, all processes end."""
    names = given.only.split(",") if given.only else DEFAULT
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    begun = monotonic()
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        suite = Suite(options_of(given), Path(directory))
        try:
            for name in names:
                if name in NEED_PROC and not sys.platform.startswith("linux"):
                    suite.note(f"{name} needs Linux's /proc and was skipped")
                    continue
                PARTS[name](suite)
        finally:
            suite.close()
    suite.note(
        f"took {monotonic() - begun:.0f} s; load average behind it: {os.getloadavg()[0]:.2f}"
    )
    return suite.found


def as_row(goal: Goal) -> dict[str, object]:
    """Give a goal as plain values."""
    return {
        "goal": goal.name,
        "figure": goal.figure,
        "asked": goal.asked,
        "is_met": goal.is_met,
        "note": goal.note,
    }


if __name__ == "__main__":
    main()
