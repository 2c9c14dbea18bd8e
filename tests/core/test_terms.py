from __future__ import annotations

from random import Random

import pytest

from tinyraft.core.terms import Terms


@pytest.mark.parametrize("seed", range(200))
def test_runs_answer_like_a_list_of_terms(seed: int) -> None:
    random, terms = Random(seed), Terms()
    model: dict[int, int] = {0: 0}  # the base and all entries behind it
    for _ in range(40):
        base, last = min(model), max(model)
        what = random.choice(["append", "append", "append", "cut", "compact"])
        if what == "append":
            term = max(1, model[last] + random.choice([0, 0, 0, 1, 3]))
            count = random.randint(1, 3)
            terms.append(term, count)
            model |= dict.fromkeys(range(last + 1, last + 1 + count), term)
        elif what == "cut" and last > base:
            index = random.randint(base + 1, last)
            terms.cut(index)
            model = {i: t for i, t in model.items() if i < index}
        elif what == "compact":
            index = random.randint(base, last)
            terms.compact(index)
            model = {i: t for i, t in model.items() if i >= index}
        base, last = min(model), max(model)
        assert (base, model[base]) == (terms.base_index, terms.base_term)
        assert (last, model[last]) == (terms.last_index, terms.last_term)
        assert [model.get(i, 0) for i in range(last + 3)] == [terms.at(i) for i in range(last + 3)]
        for index in range(base, last + 2):
            for term in range(12):
                fits = [i for i, t in model.items() if i <= index and t <= term]
                assert max([base, *fits]) == terms.last_at_most(index, term)
