"""`tinyraft hammer`: many clients at work while leaders die and freeze, and a verdict at the end.

Law: a word counts as lost, doubled or misplaced by what the nodes hold at the end, and a read as
stale by what somebody had been told before it began. A cluster of the user's own is never struck.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from time import monotonic

from tinyraft.addresses import parse_addresses
from tinyraft.caller import Caller
from tinyraft.cli.chaos import Chaos, plan
from tinyraft.cli.clients import Clients
from tinyraft.cli.cluster import LOOK_SECONDS, SETTLE_SECONDS, cluster, settle
from tinyraft.cli.demo import interruptible, place
from tinyraft.cli.exits import UNREACHABLE, USAGE, Fault
from tinyraft.cli.findings import examine
from tinyraft.cli.gaps import Gaps
from tinyraft.cli.hammer_report import Hammering, print_hammering
from tinyraft.cli.history import History
from tinyraft.cli.processes import NodeProcess
from tinyraft.cli.report import Talk
from tinyraft.errors import ReadFailed

# Of our own nodes, where the environment says nothing else: who was killed starts from a snapshot.
SETTINGS = {"RAFT_SNAPSHOT_ENTRIES": "1000", "RAFT_TRAILING_BYTES": "10000"}


def hammer(
    *,
    clients: int,
    seconds: float,
    seed: int | None,
    nodes: int,
    addresses: str,
    every: float,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Hammer a cluster here, or the one at *addresses*, and print what came of it.

    Raises:
        Fault: A word was lost, duplicated or misordered, a read was stale; or a node is missing.
    """
    talk = Talk()
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    with interruptible(), ExitStack() as ending:
        running: Sequence[NodeProcess] = ()
        if not addresses:
            talk.say(f"seed {seed}")
            directory = ending.enter_context(place(keep, talk, verb="hammer"))
            running = ending.enter_context(cluster(nodes, directory, talk, settings=SETTINGS))
        where = [node.address for node in running] or list(parse_addresses(addresses))
        result = run(
            where, running, clients=clients, seconds=seconds, seed=seed, every=every, talk=talk
        )
        print_hammering(result, as_json=as_json)
        if result.findings.problems:
            raise Fault("\n  ".join(("promises were broken:", *result.findings.problems)))


def run(
    addresses: Sequence[str],
    nodes: Sequence[NodeProcess],
    *,
    clients: int,
    seconds: float,
    seed: int,
    every: float,
    talk: Talk,
) -> Hammering:
    """Send, strike *nodes* (none of a cluster that is not ours), wait, compare."""
    run_id = secrets.token_hex(4).encode()
    history = History(run_id, clients, start=count_of(addresses))
    began = monotonic()
    gaps = Gaps(began)
    chaos = Chaos(nodes, gaps, talk)
    blows = plan(Random(seed), seconds=seconds, every=every) if nodes else iter(())
    with Clients(addresses, history, gaps, seconds=seconds, seed=seed) as working:
        chaos.run(blows, began=began, until=began + seconds)
        working.stop()
        ended = monotonic()
        gaps.end(ended)
    with Caller(addresses) as caller:
        # Behind it stands nothing of ours: a leader that can commit it has all that went before.
        end = int(caller.apply(run_id, timeout=SETTLE_SECONDS) or b"0")
        if nodes:
            settle(nodes)
            end = int(caller.query(b"count"))
    lists = {address: words_of(address, history.start, end) for address in addresses}
    return Hammering(
        history=history,
        gaps=gaps,
        findings=examine(history, lists),
        blows=chaos.counts,
        seconds=ended - began,
        seed=seed if nodes else None,
        nodes=len(addresses),
    )


def count_of(addresses: Sequence[str]) -> int:
    """Ask how many words there are before we begin.

    Raises:
        Fault: Nobody answers, or not as the list of words does.
    """
    with Caller(addresses) as caller:
        try:
            answer = caller.query(b"count")
        except ReadFailed as error:
            raise Fault(str(error), code=UNREACHABLE) from error
    if not answer.isdigit():
        raise Fault("the nodes must run tinyraft.cli.words:Words", code=USAGE)
    return int(answer)


def words_of(address: str, start: int, end: int) -> Iterator[bytes]:
    """Give the words of one node, from behind *start* to *end*, as soon as it has them.

    Raises:
        Fault: It does not answer, or does not catch up.
    """
    deadline = monotonic() + SETTLE_SECONDS
    with Caller(address) as caller:
        while (count := int(caller.query(b"count", consistency="stale"))) < end:
            if monotonic() > deadline:
                raise Fault(f"{address} has {count} words only, of {end}")
            time.sleep(LOOK_SECONDS)
        while start < end:
            words = caller.query(b"words %d" % start, consistency="stale").split(b"\n")
            yield from words[: end - start]
            start += len(words)
