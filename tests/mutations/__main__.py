"""``python -m tests.mutations``: every seeded bug must be noticed by a test.

Prints a line for each: the bug, what it breaks, the first test that failed, and the seconds it
took. Ends with 1 if a bug survives, a patch can't be tried, or a named test fails without any bug.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic

from tests.mutations.catalogue import Mutation, load, part_of
from tests.mutations.runner import Bench, BrokenPatch, Verdict


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", metavar="M5,M12", help="these; M5 stands for its variants too")
    parser.add_argument("--slice", metavar="I/N", help="part I of N, counted from 1")
    parser.add_argument("--jobs", type=int, default=2, metavar="J", help="copies at once (2)")
    parser.add_argument("--named", action="store_true", help="run only the tests that are named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    return parser.parse_args(given)


def chosen(options: argparse.Namespace) -> list[Mutation]:
    """Choose the mutations."""
    found = load()
    if options.only:
        names = set(options.only.split(","))
        known = {m.id for m in found} | {m.mistake for m in found}
        if names - known:
            raise SystemExit(f"not in the catalogue: {', '.join(sorted(names - known))}")
        found = [m for m in found if {m.id, m.mistake} & names]
    return part_of(found, options.slice) if options.slice else found


def line(verdict: Verdict) -> str:
    """Write one line of the table."""
    mutation = verdict.mutation
    end = verdict.caught_by or f"SURVIVES {verdict.trouble}".strip()
    found = end if verdict.named or not verdict.is_caught else f"{end} (not in its list)"
    return f"{mutation.id:6} {mutation.breaks[:72]:72} {found}  {verdict.seconds:.1f} s"


def say(text: str) -> None:
    """Print at once: a long run is watched."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(given: Sequence[str] | None = None) -> int:
    """Try the chosen bugs; return the exit code."""
    options, begun = arguments(given), monotonic()
    mutations = chosen(options)
    with tempfile.TemporaryDirectory(prefix="tinyraft-mutations-") as name:
        bench = Bench(Path(name))
        bench.prepare()
        named = sorted({test for mutation in mutations for test in mutation.caught_by})
        try:
            failing = bench.failing_without_bug(named)
        except BrokenPatch as error:
            raise SystemExit(f"without any bug {error}") from None
        for test in failing:
            say(f"fails without any bug: {test}")
        verdicts: list[Verdict] = []
        with ThreadPoolExecutor(options.jobs) as pool:
            judge = partial(bench.judge, only_named=options.named)
            for verdict in pool.map(judge, mutations):
                verdicts.append(verdict)
                say(line(verdict))
    caught = sum(verdict.is_caught for verdict in verdicts)
    say(f"{caught} of {len(verdicts)} caught in {monotonic() - begun:.0f} s")
    if options.json:
        rows = [
            {
                "mutation": v.mutation.id,
                "breaks": v.mutation.breaks,
                "caught_by": v.caught_by,
                "named": v.named,
                "seconds": round(v.seconds, 1),
                "trouble": v.trouble,
            }
            for v in verdicts
        ]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if caught == len(verdicts) and not failing else 1


if __name__ == "__main__":
    sys.exit(main())
