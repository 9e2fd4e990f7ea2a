"""A modelled engine as routers know it: an address, and what its metrics page says."""

from typing import Final

from router.core.load import LoadReport
from router.core.model import Endpoint, EndpointId
from router.sim.engine import Engine
from router.sim.profile import PICOSECONDS

CLUSTER: Final = "engines"


class Replica:
    """One of the fleet.

    Attributes:
        up: it answers.
        wanted: it may be given new requests.
        heard: when routers last read its load.
    """

    __slots__ = ("endpoint", "engine", "heard", "up", "wanted")

    def __init__(self, number: int, engine: Engine) -> None:
        host = f"replica-{number}"
        id_ = EndpointId(f"{CLUSTER}/{host}:8000")
        self.endpoint = Endpoint(id=id_, cluster=CLUSTER, host=host, port=8000)
        self.engine = engine
        self.up = True
        self.wanted = True
        self.heard = 0

    @property
    def id(self) -> EndpointId:
        return self.endpoint.id

    def report(self, now: int) -> LoadReport:
        """What routers read at an engine like vLLM, which does not tell how long prompts in line
        are."""
        engine = self.engine
        return LoadReport(
            at=now / PICOSECONDS,
            running=engine.running,
            waiting=len(engine.waiting),
            kv_usage=engine.cache.usage,
            capacity=engine.profile.kv_tokens,
        )
