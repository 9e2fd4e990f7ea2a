"""Several routers of the same endpoints, and what lies between them."""

import random

from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.forecast.forecast import Forecast
from router.core.forecast.gossip import Gossip
from router.core.forecast.work import Phase, PrefillWork
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.prefix.blocks import checkpoints
from tests.core.world import hosts, request

CLUSTER = "c"


def chat(tokens: int, seed: int = 0, stream: bool = True) -> LlmRequest:
    """A prompt of so many tokens; a longer one of the same seed begins with it."""
    size = 4 * tokens
    rng = random.Random(seed)
    text = b"".join(rng.randbytes(64) for _ in range(size // 64 + 1))[:size]
    return request(
        stream=stream,
        prompt_bytes=size,
        body_bytes=size,
        checkpoints=checkpoints([text], 0),
        prefix_hash=seed + 1,
    )


class Router:
    """A balancer of two endpoints or more, and its gossip."""

    def __init__(self, origin: int, endpoints: int = 2) -> None:
        self.origin = origin
        self.hosts = hosts(*[1] * endpoints)
        memory = ClusterMemory.alone()
        self.rng = random.Random(origin)
        self.balancer = PredictedTtft.Spec().build(self.rng, memory)
        self.forecast = memory.keep(Forecast)
        self.gossip = Gossip(origin, 1, lambda: None)
        self.gossip.follow({CLUSTER: (self.forecast, [host.id for host in self.hosts])})

    def send(self, asked: LlmRequest, index: int, now: float) -> PrefillWork:
        return self.forecast.begin(asked, self.hosts[index], now)

    def where(self, asked: LlmRequest, now: float) -> tuple[int, str]:
        host, reason = self.balancer.pick(asked, self.hosts, self.rng, now=now)
        return host.slot, reason

    def wait(self, index: int, now: float) -> float:
        return self.forecast.of(self.hosts[index].id).wait(now)

    def held(self, asked: LlmRequest) -> dict[str, float]:
        """Blocks of the prompt that each endpoint is expected to hold."""
        pages = {one.page.index: id_ for id_, one in self.forecast.outlooks()}
        return {pages[index]: n for index, n in self.forecast.expected(asked, 0b11).items()}

    def lines(self) -> list[tuple[int, int, float]]:
        """In line and in decode at each endpoint, and the seconds in line."""
        found = []
        for host in self.hosts:
            one = self.forecast.of(host.id)
            found.append((len(one.line), one.decoding, round(one.queued, 6)))
        return found


class Net:
    """Carries envelopes; what becomes of each is up to ``fate``: how often it arrives."""

    def __init__(self, *routers: Router) -> None:
        self.routers = {router.origin: router for router in routers}
        self.carried = 0

    def add(self, router: Router) -> None:
        self.routers[router.origin] = router

    def kill(self, origin: int) -> None:
        del self.routers[origin]

    def carry(self, now: float, copies: int = 1) -> None:
        """Take and deliver, until nobody has anything to say."""
        while any(router.gossip.talkative for router in self.routers.values()):
            for origin, router in list(self.routers.items()):
                for to, data in router.gossip.take():
                    self.carried += 1
                    for other in self.routers.values():
                        if other.origin != origin and to in (0, other.origin):
                            for _ in range(copies):
                                other.gossip.hear(data, now)

    def look(self, now: float) -> None:
        for router in self.routers.values():
            router.gossip.look(now)


def open_works(router: Router) -> dict[int, Phase]:
    return {serial: work.phase for serial, work in router.gossip.herald.open.items()}
