"""Small exhaustive exploration: ``python -m tests.core.explore --states 1000000``.

All that can happen to three real cores within small bounds: timeouts, proposals, one crash, one
message lost or doubled; every order of delivery and of syncs (`explorer`). Breadth first, so that a
violation is found by its shortest story, which is printed as a script (`scribe`). With ``--jobs``
above one, the other processes walk at random, within bounds twice as wide.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from multiprocessing import Pool
from pathlib import Path
from random import Random

from tests.core.explorer import Bounds, Explorer, Violated


def walk(explorer: Explorer, *, random: Random, steps: int) -> int:
    """Go on at random from the beginning until nothing can happen; return how many steps."""
    state, story = explorer.start, []
    for taken in range(steps):
        events = list(explorer.possible(state))
        if not events:
            return taken
        event = random.choice(events)
        story.append(event)
        try:
            state = explorer.after(state, event, 0)
        except Violated as violated:
            whole = explorer.script([*explorer.prelude, *story])
            raise Violated(whole, violated.error) from violated
    return steps


# --- the command --------------------------------------------------------------------------------


def search(bounds: Bounds, *, led: bool, states: int, seconds: float) -> dict[str, object]:
    """Search breadth first; return the figures."""
    start, cpu = time.monotonic(), time.process_time()
    explorer = Explorer(bounds, led=led)
    figures: dict[str, object] = {"bounds": bounds._asdict(), "begin": "led" if led else "fresh"}
    try:
        figures["complete"] = explorer.run(states=states, seconds=seconds)
    except Violated as violated:
        figures |= {"violation": str(violated), "script": violated.story}
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    found = len(explorer.seen)
    return figures | {
        "states": found,
        "depth": max(explorer.depths, default=0),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "states_per_cpu_second": round(found / cpu),
        "states_of_a_member": len(explorer.members.things),
    }


def wander(bounds: Bounds, *, led: bool, seed: int, seconds: float) -> dict[str, object]:
    """Walk at random, within bounds twice as wide; return the figures."""
    wide = Bounds(*(2 * bound for bound in bounds))
    figures: dict[str, object] = {"walks within": wide._asdict(), "seed": seed}
    deadline, events, walks = time.monotonic() + seconds, 0, 0
    explorer, random = Explorer(wide, led=led), Random(seed)
    try:
        while time.monotonic() < deadline:
            events += walk(explorer, random=random, steps=200)
            walks += 1
    except Violated as violated:
        figures |= {"violation": str(violated), "script": violated.story}
    return figures | {"walks": walks, "events": events}


def run_job(number: int, options: argparse.Namespace) -> dict[str, object]:
    """Do the part of one process: the first searches, each other one walks."""
    bounds = Bounds(*(getattr(options, name) for name in Bounds._fields))
    led, seconds = options.begin == "led", options.seconds
    if number:
        return wander(bounds, led=led, seed=number, seconds=seconds)
    return search(bounds, led=led, states=options.states, seconds=seconds)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="explore", description=__doc__.split("\n")[0])
    parser.add_argument("--states", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--jobs", type=int, default=1, help="more than one: the others walk")
    parser.add_argument("--begin", choices=("fresh", "led"), default="fresh")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    for name, value in Bounds()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with Pool(options.jobs) as pool:
        every = pool.starmap(run_job, [(number, options) for number in range(options.jobs)])
    for figures in every:
        story = figures.pop("script", "")
        sys.stdout.write(f"{json.dumps(figures)}\n{story}")
    if options.json is not None:
        options.json.write_text(json.dumps(every, indent=1) + "\n")
    return 1 if any("violation" in figures for figures in every) else 0


if __name__ == "__main__":
    sys.exit(main())
