"""The configuration of engines' KV events: where they tell what their caches hold."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

import msgspec

from router.config.findings import Path, Problem
from router.config.section import Section, doc
from router.core.balancers.base import BalancerSpec
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.cluster import KvEvents

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
ASKED = "auto: each engine says it, leave it out, or give the port of `subscribe`"


class KvEventsSpec(Section, frozen=True, kw_only=True):
    """What engines tell of their caches over ZeroMQ, so that `predicted_ttft` need not guess what
    they hold; for engines that publish it, as warmpath-engine, vLLM and SGLang do. Needs the extra
    `kv-events`.

    Connections go to each endpoint's own host. They are not encrypted, and show prompts as tokens.
    """

    shorthand: ClassVar[str | None] = "subscribe"

    subscribe: Annotated[
        Port | Literal["auto"],
        doc("The port at which engines publish; auto: `GET /kv_event_sources` tells it."),
    ] = "auto"
    replay: Annotated[
        Port | None, doc("The port at which they repeat what was missed; none: it is lost.")
    ] = None
    topic: Annotated[
        str, msgspec.Meta(max_length=255), doc("Heed what is published under it; all by default.")
    ] = ""
    max_blocks: Annotated[
        int,
        doc(
            "Blocks known of one engine, at 160 bytes; of more it is not known whether it holds "
            "them.",
            ge=1000,
            le=10_000_000,
        ),
    ] = 500_000

    def build(self) -> KvEvents:
        port = None if self.subscribe == "auto" else self.subscribe
        return KvEvents(port, self.replay, self.topic, self.max_blocks)


def kv_event_problems(
    spec: KvEventsSpec | None, balancer: BalancerSpec, path: Path
) -> Iterator[Problem]:
    """What is wrong with the field ``kv_events`` of the cluster at ``path``."""
    if spec is None:
        return
    here: Path = (*path, "kv_events")
    if find_spec("zmq") is None:
        yield Problem(
            here, "needs the package pyzmq: pip install 'warmpath[kv-events]'", at_key=True
        )
    if not isinstance(balancer, PredictedTtft.Spec):
        yield Problem(here, "only the balancer predicted_ttft heeds what caches hold", at_key=True)
    if spec.subscribe == "auto":
        for field in ("replay", "topic"):
            if getattr(spec, field):
                yield Problem((*here, field), ASKED)
