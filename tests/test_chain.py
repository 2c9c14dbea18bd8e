"""Chains: everybody is woken once, in order, and nobody stays behind."""

from __future__ import annotations

from threading import Lock, Thread

import pytest

from tinyraft import chain as chain_module
from tinyraft.chain import Chain

WAIT = 20.0


def place_in(chain: Chain) -> Lock:
    """Join."""
    place = Lock()
    place.acquire()
    chain.join(place)
    return place


def test_each_wakes_the_next_and_the_last_says_so() -> None:
    """One at a time, in order; the end is told once, however often it is met."""
    ends: list[str] = []
    chain = Chain(lambda: ends.append("end"))
    places = [place_in(chain) for _ in range(3)]
    chain.open()
    for number, place in enumerate(places):
        assert [False] * (number + 1) == [one.locked() for one in places[: number + 1]]
        assert all(one.locked() for one in places[number + 1 :])
        assert not chain.leave(place), "it was woken"
        assert [] == ends
        chain.pass_on()
    chain.pass_on()
    assert ["end"] == ends


def test_who_leaves_is_woken_by_nobody() -> None:
    """And those behind it are."""
    chain = Chain()
    first, gone, last = (place_in(chain) for _ in range(3))
    assert chain.leave(gone)
    assert not chain.leave(gone)
    chain.open()
    chain.pass_on()
    assert (False, True, False) == (first.locked(), gone.locked(), last.locked())


def test_an_interrupt_between_two_steps_keeps_nobody_asleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C comes while the first passes it on."""
    chain = Chain()
    first, second = (place_in(chain) for _ in range(2))
    chain.open()
    times = iter([KeyboardInterrupt, 1.0, 1.0])

    def interrupted() -> float:
        time = next(times)
        if not isinstance(time, float):
            raise time
        return time

    monkeypatch.setattr(chain_module, "monotonic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chain.pass_on()
    assert (False, False) == (first.locked(), second.locked())


def test_an_empty_chain_ends_at_once() -> None:
    """Unless somebody has taken that over."""
    ends: list[str] = []
    Chain(lambda: ends.append("first")).open()
    chain = Chain(lambda: ends.append("second"))
    assert chain.take_end() is not None
    chain.open()
    assert (["first"], None) == (ends, chain.take_end())


def test_a_late_chain_wakes_all_who_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a thread that computes each step would cost a switch interval."""
    now = [0.0]
    monkeypatch.setattr(chain_module, "monotonic", lambda: now[0])
    ends: list[str] = []
    chain = Chain(lambda: ends.append("end"))
    places = [place_in(chain) for _ in range(4)]
    chain.open()
    now[0] += 0.001
    chain.pass_on()
    assert [False, False, True, True] == [place.locked() for place in places]
    now[0] += 0.004
    chain.pass_on()
    assert [False] * 4 == [place.locked() for place in places]
    assert ["end"] == ends


def test_who_comes_again_is_the_first() -> None:
    """It was woken as the first, and waits on."""
    chain = Chain()
    places = [place_in(chain) for _ in range(2)]
    chain.wake()
    assert places[0].acquire(blocking=False)
    chain.join_again(places[0])
    chain.wake()
    assert (False, True) == tuple(place.locked() for place in places)


def test_hundreds_of_threads_are_all_woken() -> None:
    """Those that give up at any moment among them."""
    for patience in (0.0, 0.0005, 0.002, WAIT):
        chain = Chain()
        over: list[str] = []

        def wait(place: Lock, seconds: float, chain: Chain, over: list[str]) -> None:
            woken = place.acquire(timeout=seconds)
            if not woken and chain.leave(place):
                over.append("left")
                return
            chain.pass_on()
            over.append("woken")

        threads = []
        for number in range(100):
            place, seconds = place_in(chain), WAIT if number % 2 else patience
            threads.append(Thread(target=wait, args=(place, seconds, chain, over), daemon=True))
        for thread in threads:
            thread.start()
        chain.open()
        for thread in threads:
            thread.join(WAIT)
        assert 100 == len(over)
        assert over.count("woken") >= 50
