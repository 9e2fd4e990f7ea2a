"""What the mirror makes of an engine's own word, beside what it estimates."""

import random

import pytest

from router.core.engine_cache.news import CacheNews
from router.core.forecast.certainty import heed
from router.core.forecast.forecast import Forecast
from router.core.forecast.notes import pack
from router.core.load import LoadReport
from router.core.model import EndpointId
from router.core.prefix.blocks import BLOCK, checkpoints
from router.core.prefix.ends import end_of
from router.core.prefix.mirror import SURE, CacheMirror
from tests.core.mirrored import estimated

ALL = (1 << 64) - 1
TALK = 0x5EED
TEXT = random.Random(0).randbytes(45 * BLOCK)
NAMES = checkpoints([TEXT[: 38 * BLOCK]], 0)
END = end_of(NAMES, TALK)
NEXT = checkpoints([TEXT], 0)


def held(mirror: CacheMirror, names: tuple[int, ...] = NEXT, blocks: float = 45.0) -> float:
    found = mirror.held(names, blocks, TALK, ALL)
    assert len(found) <= 1
    return next(iter(found.values()), 0.0)


def test_what_is_sure_is_held_at_any_age() -> None:
    mirror = CacheMirror()
    mirror.capacity = 40.0
    page = mirror.open()
    mirror.use(page, NAMES, 38.0, TALK, 38.0)
    mirror.assure(page, (*NAMES, END))
    page.clock += 1000.0
    assert held(mirror) == 38.0
    mirror.lose(page, (END,))
    assert held(mirror) == 32.0, "as deep as its last checkpoint is"
    mirror.lose(page, NAMES[-2:])
    assert held(mirror) == 24.0
    mirror.lose(page, NAMES)
    assert held(mirror) == 0.0
    assert (len(page), mirror.entries) == (0, 0)


def test_a_use_leaves_alone_what_is_sure() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.assure(page, NAMES[:4])
    mirror.use(page, NAMES, 38.0, TALK, 34.0)
    assert page.sure == set(NAMES[:4])
    assert set(estimated(page)) == set(NAMES[4:])
    mirror.unlearn(page, NAMES)
    assert (page.sure, estimated(page)) == (set(NAMES[:4]), [])


def test_of_several_endpoints_each_is_known_in_its_own_way() -> None:
    mirror = CacheMirror()
    told, estimated, neither = mirror.open(), mirror.open(), mirror.open()
    mirror.use(estimated, NAMES[:3], 3.0, 1, 3.0)
    mirror.assure(told, NAMES[:6])
    mirror.use(told, NAMES, 38.0, TALK, 38.0)
    mirror.lose(told, NAMES[6:])
    found = mirror.held(NEXT, 45.0, TALK, ALL)
    assert found == {told.index: 6, estimated.index: 3}
    assert mirror.held(NEXT, 45.0, TALK, 1 << neither.index) == {}


def test_a_short_prompt_is_sure_by_its_conversation() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.use(page, (), 0.4, TALK, 0.4)
    mirror.assure(page, (TALK, end_of((), TALK)))
    page.clock += 1e9
    assert held(mirror, (), 0.9) == 0.4
    mirror.lose(page, (TALK, end_of((), TALK)))
    assert held(mirror, (), 0.9) == 0.0


def test_nothing_is_learned_of_the_capacity_from_what_is_sure() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.use(page, NAMES, 38.0, TALK, 38.0)
    assert mirror.deepest(page, NEXT) == (len(NAMES) - 1, 38.0)
    mirror.assure(page, NAMES)
    assert mirror.deepest(page, NEXT) == (len(NAMES) - 1, SURE)


def test_out_of_step_what_was_sure_is_as_if_used_just_now() -> None:
    mirror = CacheMirror()
    mirror.capacity = 40.0
    page = mirror.open()
    mirror.assure(page, (*NAMES, END))
    page.clock = 500.0
    mirror.doubt(page)
    assert not page.sure
    assert held(mirror) == 32.0, "of its end nothing was kept"
    page.clock += 100.0
    assert held(mirror) == 0.0


def test_sure_names_count_and_give_way_when_there_are_too_many() -> None:
    mirror = CacheMirror(max_entries=1000)
    page = mirror.open()
    mirror.assure(page, range(1, 1501))
    assert mirror.entries == len(page) <= 1000
    assert mirror.shed >= 500
    mirror.close(page)
    mirror.use(mirror.open(), NAMES, 38.0, TALK, 0.0)
    assert mirror.entries == len(NAMES)


def test_they_are_told_to_a_router_that_joins() -> None:
    mirror, other = CacheMirror(), CacheMirror()
    page, there = mirror.open(), other.open()
    mirror.use(page, NAMES, 38.0, TALK, 38.0)
    mirror.assure(page, NAMES[:3])
    told = mirror.recent(page, 100)
    assert sorted(name for name, _ in told) == sorted(NAMES)
    assert [age for _, age in told[:3]] == [0.0] * 3
    other.assure(there, NAMES[:1])
    other.recall(there, told)
    assert other.entries == len(there) == len(NAMES)


# --- volume -------------------------------------------------------------------------------------


def test_the_clock_goes_by_what_is_stored() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.stored(page, 5.0)
    assert page.clock == 5.0
    mirror.use(page, NAMES, 38.0, TALK, 38.0)
    assert page.clock == 43.0, "foreseen"
    mirror.stored(page, 30.0)
    mirror.stored(page, 8.0)
    assert page.clock == 43.0, "it has come"
    mirror.stored(page, 2.0)
    assert page.clock == 45.0, "more than that"


def test_what_was_foreseen_and_never_came_is_forgotten_in_the_end() -> None:
    mirror = CacheMirror()
    mirror.capacity = 10.0
    page = mirror.open()
    mirror.stored(page, 0.0)
    mirror.use(page, NAMES, 38.0, TALK, 1000.0)
    mirror.stored(page, 4.0)
    mirror.stored(page, 7.0)
    assert page.clock == 1001.0


def test_the_capacity_stays_near_what_engines_hold() -> None:
    mirror = CacheMirror()
    mirror.fit(400.0)
    assert mirror.capacity == 400.0
    for _ in range(50):
        mirror.learn(10.0, False)
    assert mirror.capacity == 100.0
    for _ in range(50):
        mirror.learn(5000.0, True)
    assert mirror.capacity == 400.0
    page = mirror.open()
    mirror.doubt(page)
    mirror.learn(5000.0, True)
    assert mirror.capacity > 400.0


# --- a forecast ---------------------------------------------------------------------------------

ONE, TWO = EndpointId("c/one:1"), EndpointId("c/two:1")


@pytest.fixture
def forecast() -> Forecast:
    made = Forecast()
    for id_ in (ONE, TWO):
        made.of(id_)
    return made


def test_news_are_entered(forecast: Forecast) -> None:
    heed(forecast, CacheNews(ONE, True, held=pack(NAMES), stored=256))
    page = forecast.of(ONE).page
    assert page.sure == set(NAMES)
    assert page.clock == 2.0
    heed(forecast, CacheNews(ONE, True, lost=pack(NAMES[:1]), held=pack(NAMES[1:])))
    assert page.sure == set(NAMES[1:])
    heed(forecast, CacheNews(ONE, False))
    assert (page.sure, set(estimated(page))) == (set(), set(NAMES[1:]))


def test_a_cleared_cache_keeps_its_line(forecast: Forecast) -> None:
    heed(forecast, CacheNews(ONE, True, held=pack(NAMES)))
    outlook, page = forecast.of(ONE), forecast.of(ONE).page
    outlook.heed(0.5)
    version = forecast.version
    heed(forecast, CacheNews(ONE, True, cleared=True))
    assert forecast.of(ONE) is outlook
    assert outlook.page is not page
    assert (len(outlook.page), outlook.page.counted, outlook.foreign) == (0, True, 0.5)
    assert forecast.version > version, "picks must look at another page"


def test_the_size_comes_from_those_that_tell_it(forecast: Forecast) -> None:
    forecast.reported(ONE, LoadReport(0.0, 0, 0, None, None, 400_000))
    heed(forecast, CacheNews(ONE, True, size=40_000))
    heed(forecast, CacheNews(TWO, True, size=80_000))
    assert forecast.mirror.capacity == 60_000 * 4.0 / BLOCK
    assert (forecast.of(ONE).page.scale, forecast.of(TWO).page.scale) == (1.5, 0.75)
    forecast.reported(ONE, LoadReport(1.0, 0, 0, None, None, 400_000))
    assert forecast.of(ONE).page.scale == 1.5, "its metrics page knows less"
