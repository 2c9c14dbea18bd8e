"""Lives of nodes: one that does everything once, and those of chance."""

from __future__ import annotations

from random import Random

from tests.storage.life import Life, make_entries, vote, write
from tinyraft.core.effects import Write


def fixed_life(life: Life) -> None:
    """Live a life that does everything once, rolling over several segments."""
    life.open()
    life.write(write(state=vote(1, "a")), write(make_entries(1, 2, term=1)))
    life.sync()
    life.write(write(make_entries(3, 2, term=1)), write(make_entries(5, 1, term=1)))
    life.write(write(state=vote(2)))
    life.sync()
    life.write(write(make_entries(4, 1, term=2, command=b"y" * 40), state=vote(3, "b"), cut=4))
    life.sync()
    life.write(write(make_entries(5, 3, term=3, command=b"z" * 50)))
    life.write(write(make_entries(8, 1, term=3, command=b"large" * 100)))
    life.sync()
    life.close()
    life.open()
    life.write(write(make_entries(9, 1, term=3)))
    life.sync()
    life.write(write(make_entries(8, 2, term=4), state=vote(4), cut=8))
    life.kill()
    life.open()
    life.write(write(make_entries(10, 1, term=4, command=b"")))
    life.sync()
    life.write(write(make_entries(11, 1, term=4, command=b"unsynced")))


def snapshots_life(life: Life) -> None:
    """Take snapshots, shorten the log, have one installed, and go on."""
    life.open()
    life.write(write(make_entries(1, 7, term=4, command=b"a"), state=vote(4, "a")))
    life.sync()
    life.snapshot(4)
    life.shorten()
    life.write(write(make_entries(8, 6, term=4, command=b"c" * 20)))
    life.sync()
    life.snapshot(9)
    life.shorten()
    life.write(write(make_entries(14, 2, term=4, command=b"d" * 50)))
    life.sync()
    life.snapshot(12)
    life.shorten()
    life.write(write(make_entries(14, 1, term=5), state=vote(5), cut=14))
    life.close()
    life.open()
    life.write(write(make_entries(15, 1, term=5, command=b"goes")))
    agreed = life.states[-1][1][:12]
    elsewhere = tuple((index, 6, b"e") for index in range(13, 21))
    life.install(agreed + elsewhere, size=300)
    life.write(write(make_entries(21, 2, term=6)))
    life.sync()
    life.kill()
    life.open()
    life.write(write(make_entries(22, 3, term=7, command=b"f" * 90), state=vote(7), cut=22))
    life.sync()
    life.snapshot(23)
    life.shorten()
    life.write(write(make_entries(25, 1, term=7)))
    life.sync()
    life.write(write(make_entries(26, 1, term=7, command=b"unsynced")))


LIVES = {"fixed": fixed_life, "snapshots": snapshots_life}


def random_life(life: Life, *, random: Random, steps: int) -> None:
    """Live a life of chance."""
    life.open()
    for _ in range(steps):
        dice = random.random()
        if dice < 0.6:
            random_write(life, random=random)
        elif dice < 0.9:
            life.sync()
        elif dice < 0.93:
            random_snapshot(life, random=random)
        elif dice < 0.96:
            reopen(life)
        else:
            killed(life)


def random_write(life: Life, *, random: Random) -> None:
    """Write one to three changes in one call."""
    (term, voted_for), entries = life.states[-1]
    last, last_term = len(entries), entries[-1][1] if entries else 0
    agreed = life.taken
    writes: list[Write] = []
    for _ in range(random.randint(1, 3)):
        state, cut = None, None
        if term == 0 or random.random() < 0.3:
            term, voted_for = term + random.randint(1, 2), random.choice([None, "a", "node-b"])
            state = vote(term, voted_for)
        if last > agreed and random.random() < 0.25:
            last = random.randint(max(agreed, last - 4), last)
            cut, last_term = last + 1, 0
        count = random.choice([0, 1, 1, 2, 4])
        command = random.randbytes(random.choice([0, 3, 20, 90]))
        new = make_entries(last + 1, count, term=term, command=command)
        last += count
        writes.append(write(new, state=state, cut=cut))
    assert last_term <= term
    life.write(*writes)


def random_snapshot(life: Life, *, random: Random) -> None:
    """Take a snapshot, or have one installed, and perhaps shorten the log."""
    (term, _), entries = life.states[-1]
    if random.random() < 0.3:
        agreed = entries[: random.randint(life.taken, len(entries))]
        first, count = len(agreed) + 1, random.randint(1, 9)
        new = tuple((index, term + 1, b"new") for index in range(first, first + count))
        life.install(agreed + new, size=random.choice((60, 300, 1000)))
    elif len(entries) > life.taken:
        life.sync()
        life.snapshot(random.randint(life.taken + 1, len(entries)))
    if life.taken and random.random() < 0.7:
        life.shorten(keep=random.choice((1, 2, 2)))


def reopen(life: Life) -> None:
    """End the process in order and start again."""
    life.close()
    life.kill()
    life.open()


def killed(life: Life) -> None:
    """Kill the process and start again: nothing that was written may be missing."""
    life.kill()
    life.open()
    assert life.states[-2] == life.states[-1]
