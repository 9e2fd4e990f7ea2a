"""What the cache of a modelled engine keeps, and in which order it lets go."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.sim.kv_cache import Found, KvCache


def test_the_end_of_a_prompt_goes_first() -> None:
    cache = KvCache(10, 50, 0)
    assert cache.admit((1, 2, 3), 30, 10) == Found(0, 0)
    cache.release((1, 2, 3), 10, -1)
    cache.admit((7, 8), 20, 10)  # room for 30: the answer and block 3 make it
    assert [block in cache for block in (1, 2, 3)] == [True, True, False]


def test_a_prompt_in_use_is_not_evicted_however_old() -> None:
    cache = KvCache(10, 50, 0)
    cache.admit((1, 2), 20, 10)
    assert cache.admit((7, 8), 20, 10) is None
    assert cache.admit((1, 2), 20, 10) == Found(10, 0)
    assert cache.usage == 0.8


def test_the_oldest_prompt_goes_first() -> None:
    cache = KvCache(10, 60, 0)
    for block in (1, 2, 1, 3):  # 1 is used again after 2
        cache.admit((block,), 11, 9)
        cache.release((block,), 10, -block)
    cache.admit((4,), 15, 5)
    assert [block in cache for block in (1, 2, 3)] == [True, False, True]


class Cache(RuleBasedStateMachine):
    """Prompts of a small tree come and go; nothing is ever counted twice or lost."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KvCache(10, 200, 150)
        self.running: list[tuple[tuple[int, ...], int, int]] = []
        self.keys = 0

    @rule(branch=st.integers(0, 4), depth=st.integers(0, 8), answer=st.integers(1, 40))
    def admit(self, branch: int, depth: int, answer: int) -> None:
        blocks = tuple(level if level < 3 else 100 * branch + level for level in range(depth))
        prompt = 10 * depth + 5
        seen = self.cache.look(blocks, prompt)
        found = self.cache.admit(blocks, prompt, answer)
        if found is not None:
            assert found == seen
            self.keys += 1
            self.running.append((blocks, 5 + answer, -self.keys))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100))
    def release(self, which: int) -> None:
        self.cache.release(*self.running.pop(which % len(self.running)))

    @invariant()
    def pinned_is_what_runs(self) -> None:
        blocks = {block for blocks, _, _ in self.running for block in blocks}
        rest = sum(rest for _, rest, _ in self.running)
        assert self.cache.pinned == 10 * len(blocks) + rest <= 200
        assert all(block in self.cache for block in blocks)

    @invariant()
    def both_tiers_keep_to_their_room(self) -> None:
        assert self.cache.pinned <= self.cache.held <= 350

    @invariant()
    def what_is_there_can_be_reached(self) -> None:
        for branch in range(5):
            path = [level if level < 3 else 100 * branch + level for level in range(8)]
            present = [block in self.cache for block in path]
            assert present == sorted(present, reverse=True)


TestCache = Cache.TestCase
TestCache.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
