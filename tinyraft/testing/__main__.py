"""Run the simulator: ``python -m tinyraft.testing --seeds 2000``; `tox -e sim` does.

Law: a run that tested too little is not green: each rare situation must have been met often enough.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tinyraft.testing.marks import missing
from tinyraft.testing.story import Story, draw, shorter
from tinyraft.testing.world import Result, play

CHUNK = 20


def many(seeds: range) -> list[Result]:
    """Play a few seeds in one go."""
    return [play(draw(seed)) for seed in seeds]


def results(seeds: range, *, jobs: int, seconds: float) -> Iterator[Result]:
    """Play *seeds* in *jobs* processes, until *seconds* are over."""
    end = time.monotonic() + seconds
    chunks = iter([seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)])
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(many, chunk) for _, chunk in zip(range(jobs), chunks, strict=False)}
        while running:
            done = next(as_completed(running))
            running.remove(done)
            chunk = next(chunks, None) if time.monotonic() < end else None
            if chunk is not None:
                running.add(pool.submit(many, chunk))
            yield from done.result()


def shrink(story: Story, *, tries: int = 400) -> Story:
    """Cut *story* as long as it still fails in the same way."""

    def kind(failure: str) -> str:
        return failure.rpartition(" (")[2]

    wanted = kind(play(story).failure)
    found = True
    while found and tries > 0:
        found = False
        for less in shorter(story):
            tries -= 1
            failure = play(less).failure
            if failure and kind(failure) == wanted:
                story, found = less, True
                break
            if tries <= 0:
                break
    return story


def tell(result: Result) -> None:
    """Say how to see a failure again."""
    print(f"seed {result.seed} at {result.seconds:.4f} s: {result.failure}")
    print(f"  again: python -m tinyraft.testing --start {result.seed} --seeds 1 --shrink")


def report(found: list[Result], *, took: float, jobs: int) -> None:
    """Print the figures, and what was met."""
    seen: Counter[str] = Counter()
    for result in found:
        seen += result.seen
    for what, count in sorted(seen.items()):
        print(f"  {count:9} {what}")
    events, simulated = sum(r.events for r in found), sum(r.seconds for r in found)
    print(
        f"{len(found)} seeds, {events} events, {simulated:.0f} simulated seconds in {took:.0f} s:"
        f" {len(found) / took / jobs:.1f} seeds/s, {events / took / jobs:.0f} events/s,"
        f" {simulated / took / jobs:.0f} simulated s/s a core"
    )


def main() -> int:
    """Play, report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tinyraft.testing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none later")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--shrink", action="store_true", help="cut the first failure short")
    parser.add_argument("--story", type=Path, help="play what --shrink wrote")
    parser.add_argument("--trace", action="store_true", help="print each seed's trace hash")
    options = parser.parse_args()
    if options.story is not None:
        result = play(Story.load(options.story))
        print(f"{result.trace} {result.failure or 'nothing is broken'}")
        return bool(result.failure)
    began = time.monotonic()
    seeds = range(options.start, options.start + options.seeds)
    found: list[Result] = []
    for result in results(seeds, jobs=options.jobs, seconds=options.seconds):
        found.append(result)
        if options.trace:
            print(f"{result.seed} {result.trace}")
        if result.failure:
            tell(result)
    report(found, took=time.monotonic() - began, jobs=options.jobs)
    failed = [result.seed for result in found if result.failure]
    if failed and options.shrink:
        story = shrink(draw(failed[0]))
        path = Path(f"story-{failed[0]}.json")
        story.save(path)
        print(f"cut to {len(story.faults)} faults, {story.members} members; play it again with")
        print(f"  python -m tinyraft.testing --story {path}")
        print(json.dumps([[f.at, f.kind, f.member, f.seconds, f.amount] for f in story.faults]))
    rare = missing(found) if not failed else {}
    for what, (count, least) in rare.items():
        print(f"tested too little: {what} was met {count} times, not {least}")
    return 1 if failed or rare else 0


if __name__ == "__main__":
    sys.exit(main())
