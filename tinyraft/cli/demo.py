"""`tinyraft demo`: a cluster on this machine that loses its leader at work, and nothing else.

Law: the nodes are processes that know only their environment, the words go through one `Caller`,
and the judgement (`verdict.py`) is made from what the nodes answer, not from what we meant.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from time import monotonic

from tinyraft.caller import Caller
from tinyraft.cli.cluster import UP_SECONDS, cluster, find_leader, restart, settle, tails
from tinyraft.cli.exits import INTERRUPTED, USAGE, Fault
from tinyraft.cli.processes import NodeProcess
from tinyraft.cli.report import NodeResult, Result, Talk, print_result
from tinyraft.cli.traffic import Traffic
from tinyraft.cli.verdict import digest, judge

SEND_SECONDS = 60.0
MOST_BYTES = 4 << 20  # all words come back in one answer


@dataclass(slots=True, frozen=True)
class Failover:
    """What became of the leader; the times are seconds."""

    killed: str
    gap: float  # from the kill to the first acknowledgement of a word begun after it
    catch_up: float  # from its second start until it was ready


def demo(*, count: int, words: Path | None, keep: Path | None, threads: int, as_json: bool) -> None:
    """Run the whole story and print how it went.

    Raises:
        Fault: Something was lost, doubled or different; or a node did not come up.
    """
    commands = read_words(words)
    talk = Talk()
    with interruptible(), place(keep, talk) as directory:
        result = run(commands, count=count, directory=directory, threads=threads, talk=talk)
        print_result(result, as_json=as_json)
        if result.problems:
            raise Fault(
                "\n  ".join(("the nodes don't hold what was acknowledged:", *result.problems))
            )


def read_words(path: Path | None) -> list[bytes]:
    """Number the words of a text."""
    text = (resources.files("tinyraft.cli") / "story.txt" if path is None else path).read_bytes()
    commands = [b"%d %s" % (number, word) for number, word in enumerate(text.split(), 1)]
    if not commands:
        raise Fault(f"{path} has no words", code=USAGE)
    if sum(map(len, commands)) > MOST_BYTES:
        raise Fault(f"{path} is too long: at most {MOST_BYTES >> 20} MiB", code=USAGE)
    return commands


@contextmanager
def place(keep: Path | None, talk: Talk, *, verb: str = "demo") -> Iterator[Path]:
    """Find a place for data and logs, which is kept when asked for, or when something failed."""
    if keep is None:
        directory = Path(tempfile.mkdtemp(prefix=f"tinyraft-{verb}-"))
    else:
        directory = keep.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise Fault(f"--keep: {directory} is not empty", code=USAGE)
    try:
        yield directory
    except Exception:
        talk.say(f"data and logs were kept in {directory}")
        raise
    except BaseException:
        remove_unless(keep, directory)
        raise
    if keep is None:
        shutil.rmtree(directory)
    else:
        talk.say(f"data and logs are in {directory}")


def remove_unless(keep: Path | None, directory: Path) -> None:
    """Remove a temporary directory whose nodes have ended."""
    if keep is None:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: in order, nodes first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise Fault("interrupted; nothing is left running", code=INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


# --- the story --------------------------------------------------------------------------------


def run(
    commands: Sequence[bytes], *, count: int, directory: Path, threads: int, talk: Talk
) -> Result:
    """Start, send, kill, start again, wait, compare."""
    with cluster(count, directory, talk) as nodes, Caller([n.address for n in nodes]) as caller:
        with talk.bar(len(commands)) as advance:
            traffic = Traffic(caller, commands, barrier=2 * len(commands) // 3, advance=advance)
            try:
                traffic.start(threads)
                failover = kill_leader(nodes, traffic, talk)
                if not traffic.wait_for(traffic.is_done, deadline=monotonic() + SEND_SECONDS):
                    raise Fault(
                        f"after {SEND_SECONDS:.0f} s only {traffic.settled} of {len(commands)}"
                        f" words had an answer\n{tails(nodes)}"
                    )
            finally:
                caller.close()
                traffic.stop()
        statuses = settle(nodes)
        lists = {node.name: words_of(node) for node in nodes}
    results = [
        NodeResult(status, words=len(lists[name]), digest=digest(lists[name]))
        for name, status in statuses.items()
    ]
    return Result(
        nodes=results,
        sendings=traffic.sendings,
        on_nodes=frozenset(lists[nodes[0].name]),
        killed=failover.killed,
        failover_seconds=failover.gap,
        problems=judge(traffic.sendings, lists),
    )


def kill_leader(nodes: Sequence[NodeProcess], traffic: Traffic, talk: Talk) -> Failover:
    """Kill the leader when a third of the words are acknowledged, and start it again.

    Where the others are a majority it stays dead until they have acknowledged a word.
    """
    third, deadline = len(traffic.sendings) // 3, monotonic() + SEND_SECONDS
    reached = traffic.wait_for(lambda: traffic.acknowledged >= third, deadline=deadline)
    leader = find_leader(nodes, deadline=deadline) if reached else None
    if leader is None:
        raise Fault(f"no leader, or no answer from it\n{tails(nodes)}")
    acknowledged, killed_at = traffic.acknowledged, monotonic()
    leader.kill()
    gone_at = monotonic()
    talk.say(f"killed {leader.name}, the leader, after {acknowledged} words")
    traffic.lift_barrier()

    def works_again() -> bool:
        return traffic.first_ended_of(begun_after=gone_at) is not None

    if len(nodes) > 2 and not traffic.wait_for(works_again, deadline=deadline):
        raise Fault(f"the other nodes acknowledged nothing\n{tails(nodes)}")
    started_at = monotonic()
    restart(leader, nodes, deadline=started_at + UP_SECONDS)
    catch_up = monotonic() - started_at
    if not traffic.wait_for(works_again, deadline=deadline):
        raise Fault(f"nothing was acknowledged after the kill\n{tails(nodes)}")
    gap = (traffic.first_ended_of(begun_after=gone_at) or gone_at) - killed_at
    talk.say(f"{gap * 1000:.0f} ms later a word sent since was acknowledged")
    talk.say(f"{leader.name} was back {catch_up:.1f} s after its new start")
    return Failover(leader.name, gap, catch_up)


def words_of(node: NodeProcess) -> list[bytes]:
    """Ask this one node for its words."""
    with Caller(node.address) as caller:
        return caller.query(b"words", consistency="stale").split(b"\n")
