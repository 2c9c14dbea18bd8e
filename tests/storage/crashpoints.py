"""The long search: ``python -m tests.storage.crashpoints --images 200000``.

It damages small directories in every way, then lets nodes live at random on simulated disks and
looks at what each power loss, each failing call and each kill may leave, until it has seen so many
images. An image counts once for each moment between two syncs, however many losses lead to it. What
must come of it stands in `crashes`, `faults` and `damages`.

It prints a table, and a line that replays each violation; it ends with 1 if there is any.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from multiprocessing import Pool
from pathlib import Path
from random import Random

from tests.storage import crashes, damages, faults
from tests.storage.life import Life, State, make_disk
from tests.storage.lives import LIVES, random_life
from tinyraft.testing.disk import Fault, SimDisk

OUTCOMES = ("same", "shorter", "refused")
Check = Callable[[], str]


@dataclass(slots=True)
class Tally:
    """What one unit of the search saw."""

    unit: str
    only: str | None = None  # the one case to look at
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind and outcome
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    violations: list[str] = field(default_factory=list)

    def see(self, kind: str, case: str, check: Check) -> None:
        """Check one image, or with `only` none but that one; after a violation no more."""
        if self.violations or self.only not in (None, case):
            return
        start = time.perf_counter()
        try:
            outcome = check()
        except Exception:
            if self.only is not None:
                raise
            outcome = "violation"
            self.violated(kind, case)
        self.counts[kind, outcome] += 1
        self.seconds[kind] += time.perf_counter() - start

    def violated(self, kind: str, case: str) -> None:
        """Keep the exception that is being handled, and how to see it again."""
        why = traceback.format_exc(limit=-3)
        self.violations.append(f'--replay "{self.unit} {case}"  # {kind}\n{why}')

    def add(self, other: Tally) -> None:
        """Take what *other* saw."""
        self.counts += other.counts
        self.violations += other.violations
        for kind, seconds in other.seconds.items():
            self.seconds[kind] += seconds

    @property
    def images(self) -> int:
        """How many images were seen."""
        return self.counts.total()


# --- the units of the search --------------------------------------------------------------------


def flips(tally: Tally, close: str, part: str) -> None:
    """Flip every bit of a small directory; *part* 3 of 8 are the bits that give 3 modulo 8."""
    life = damages.LIVES[close]()
    files = damages.files_of(life.disk)
    for name, data in files.items():
        for bit in range(int(part), len(data) * 8, 8):
            check = partial(damages.check_flip, files, life, name=name, bit=bit)
            tally.see(f"bit flipped ({close})", f"{name}:{bit}", check)


def mess(tally: Tally, close: str) -> None:
    """Damage a small directory in other ways."""
    life = damages.LIVES[close]()
    files = damages.files_of(life.disk)
    for at, (kind, damaged) in enumerate(damages.damages(files, random=Random(1), most=1500)):
        tally.see(kind, str(at), partial(damages.check_damage, damaged, life))


def fail(tally: Tally, seed: str, code: str) -> None:
    """Fail each call of a life with the error number *code*, once and for ever."""
    segment_bytes, run = drawn_life(seed, steps=10)
    for nth, call in enumerate(faults.calls_of(run, segment_bytes=segment_bytes)):
        for partial_bytes in (0, 50) if call == "pwrite" else (0,):
            for forever in (False, True):
                fault = Fault(nth, int(code), forever=forever, partial=partial_bytes)
                life = Life(make_disk(), segment_bytes=segment_bytes)
                check = partial(outcome_of, life, partial(faults.check_fault, life, run, fault))
                tally.see("call fails", f"{nth}:{partial_bytes}:{int(forever)}", check)


def kill(tally: Tally, seed: str) -> None:
    """Kill the process before each call of a life."""
    segment_bytes, run = drawn_life(seed, steps=25)
    for nth in range(len(faults.calls_of(run, segment_bytes=segment_bytes))):
        life = Life(make_disk(), segment_bytes=segment_bytes)
        check = partial(outcome_of, life, partial(faults.check_kill, life, run, nth=nth))
        tally.see("process killed", str(nth), check)


def live(tally: Tally, seed: str) -> None:
    """Lose the power at each moment of a life, and some of these times in the recovery again."""
    random = Random(f"most {seed}")
    most = random.choice((4, 8, 16, 64))
    segment_bytes, run = drawn_life(seed, steps=100 // most + 8)
    disk = make_disk(sector_bytes=random.choice((0, 0, 64, 512)))
    life, seen, moments = Life(disk, segment_bytes=segment_bytes), set(), itertools.count()

    def look() -> None:
        moment = next(moments)
        if tally.violations:
            return
        random = Random(f"{seed} {moment}")
        for at, (kind, image) in enumerate(crashes.losses(disk, random=random, most=most)):
            key = digest(image, life)
            if key in seen:
                continue
            seen.add(key)
            case = f"{moment}:{at}"
            if random.random() < 0.02:
                recover_twice(case, image.crash())
            tally.see(
                kind, case, partial(outcome_of, life, partial(crashes.check_recovery, image, life))
            )

    def recover_twice(case: str, image: SimDisk) -> None:
        numbers = itertools.count()

        def look_again(second: SimDisk) -> None:
            check = partial(crashes.check_second_recovery, second, life)
            number = f"{case}:{next(numbers)}"
            tally.see("again in the recovery", number, partial(outcome_of, life, check))

        random = Random(f"{seed} {case}")
        crashes.inside_recovery(image, life, random=random, look=look_again)

    crashes.watch(disk, look)
    run(life)


def drawn_life(seed: str, *, steps: int) -> tuple[int, Callable[[Life], None]]:
    """Return the size of the segments and the story of life *seed*, which can be told again."""
    segment_bytes = Random(f"bytes {seed}").choice((420, 420, 700, 1500))
    if seed in LIVES:
        return segment_bytes, LIVES[seed]
    return segment_bytes, lambda life: random_life(life, random=Random(seed), steps=steps)


def digest(image: SimDisk, life: Life) -> bytes:
    """Name an image; the same one behind another sync is another, more must be in it."""
    found = blake2b(b"%d %d" % (life.floor, len(life.identities)), digest_size=16)
    for path, data in image.files().items():
        found.update(b"%s %d " % (path.name.encode(), len(data)) + data)
    return found.digest()


def outcome_of(life: Life, check: Callable[[], State]) -> str:
    """Tell whether something is missing that was written and never synced."""
    state = check()
    return "same" if state == life.states[-1] else "shorter"


UNITS = {unit.__name__: unit for unit in (flips, mess, fail, kill, live)}


def units(seed: int) -> Iterator[str]:
    """Name the units of a search, in order and without end."""
    for close in damages.LIVES:
        yield f"mess {close}"
        yield from (f"flips {close} {part}" for part in range(8))
    for life in LIVES:
        yield from (f"fail {life} {code}" for code in faults.CODES)
        yield f"kill {life}"
        yield f"live {life}"
    for number in itertools.count(seed):
        yield f"live {number}"
        if number % 8 == 0:
            yield f"kill {number}"
        if number % 32 == 0:
            yield from (f"fail {number} {code}" for code in faults.CODES)


def run_unit(name: str, *, only: str | None = None) -> Tally:
    """Run one unit."""
    unit, *words = name.split()
    tally = Tally(name, only)
    try:
        UNITS[unit](tally, *words)
    except Exception:
        if only is not None:
            raise
        tally.violated("the life itself", "itself")
    return tally


# --- the command --------------------------------------------------------------------------------


def search(images: int, *, seed: int, jobs: int) -> Tally:
    """Run units until so many images were seen."""
    total, names = Tally("all"), units(seed)
    with Pool(jobs) as pool:
        while total.images < images:
            for tally in pool.imap_unordered(run_unit, list(itertools.islice(names, 4 * jobs))):
                total.add(tally)
    return total


def report(tally: Tally, *, seconds: float, path: Path | None) -> None:
    """Print the figures, and write them to *path* for programs."""
    columns = (*OUTCOMES, "violation")
    rows = [
        (kind, [tally.counts[kind, outcome] for outcome in columns], spent)
        for kind, spent in sorted(tally.seconds.items())
    ]
    say(f"{'kind':26}{'images':>9}{'same state':>12}{'less unsynced':>15}{'refused':>9}"
        f"{'violations':>12}{'images/s':>10}")  # fmt: skip
    for kind, (same, shorter, refused, bad), spent in rows:
        every = same + shorter + refused + bad
        say(f"{kind:26}{every:>9,}{same:>12,}{shorter:>15,}{refused:>9,}{bad:>12,}"
            f"{every / spent:>10,.0f}")  # fmt: skip
    bad, rate = len(tally.violations), tally.images / seconds
    say(f"{tally.images:,} images in {seconds:.1f} s: {rate:,.0f} a second, {bad} violations")
    for violation in tally.violations[:20]:
        say(f"\npython -m tests.storage.crashpoints {violation}")
    if path is not None:
        kinds = {kind: dict(zip(columns, counts, strict=True)) for kind, counts, _ in rows}
        figures = {"images": tally.images, "seconds": round(seconds, 1), "violations": bad}
        path.write_text(json.dumps({**figures, "kinds": kinds}, indent=1) + "\n")


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="crashpoints", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1, help="the first life")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--replay", help="look at one image again: a unit and a case")
    options = parser.parse_args()
    if options.replay:
        name, _, case = options.replay.rpartition(" ")
        say(f"{dict(run_unit(name, only=case).counts)}")
        return 0
    start = time.perf_counter()
    tally = search(options.images, seed=options.seed, jobs=options.jobs)
    report(tally, seconds=time.perf_counter() - start, path=options.json)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
