"""The configuration of clusters: endpoints, how to choose among them and how to watch them."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

import msgspec

from router.config.access import UpstreamAuth
from router.config.discovery import SPECS, DiscoverySpec
from router.config.engines import ENGINES
from router.config.kv_events import KvEventsSpec
from router.config.limits import RateLimitSpec
from router.config.locality import Localities, LocalitySpec
from router.config.outlier import Outlier
from router.config.queueing import CircuitBreaker, Queue
from router.config.section import Name, Path, Section, Status, Text, Weight, doc
from router.config.session import SESSIONS, SessionSpec
from router.config.tls import UpstreamTls
from router.config.units import Address, Duration, Interval, Percent
from router.core.balancers import REGISTRY
from router.core.balancers.base import BalancerSpec
from router.core.balancers.predicted_ttft import PredictedTtft

if TYPE_CHECKING:
    AnyBalancer = BalancerSpec
    AnyDiscovery = DiscoverySpec
    AnySession = SessionSpec
    AnyEngine = str
else:
    AnyBalancer = Union[tuple(balancer.Spec for balancer in REGISTRY)]  # noqa: UP007
    AnyDiscovery = Union[SPECS]  # noqa: UP007
    AnySession = Union[SESSIONS]  # noqa: UP007
    AnyEngine = Literal[tuple(ENGINES)]


class EndpointSpec(Section, frozen=True, kw_only=True):
    """One engine replica. A plain host:port stands for its address."""

    shorthand: ClassVar[str | None] = "address"
    planned: ClassVar[Mapping[str, str]] = {
        "role": "engines that only prefill or only decode are not told from others"
    }

    address: Annotated[Address, doc("Unique within the cluster.")]
    weight: Annotated[Weight, doc("Relative to the other endpoints of the cluster.")] = 1
    priority: Annotated[
        int,
        doc("0 first; higher ones get what the endpoints before cannot take.", ge=0, le=127),
    ] = 0
    locality: Annotated[LocalitySpec, doc("Where it is.")] = LocalitySpec()
    labels: Annotated[
        dict[Name, Annotated[str, msgspec.Meta(max_length=256)]], doc("What subsets select by.")
    ] = {}
    drain: Annotated[bool, doc("It takes no new request, and finishes those it has.")] = False
    uid: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None,
        doc("Who it is: another uid at a known address is a new endpoint that learns anew."),
    ] = None


class ActiveHealth(Section, frozen=True, kw_only=True):
    """HTTP health checks; off switches them off."""

    path: Annotated[
        Path | None, doc("What to GET; /health if not given, of Ollama /api/version.")
    ] = None
    interval: Annotated[Interval, doc("Between the checks of one endpoint.")] = Interval(2)
    timeout: Annotated[Interval, doc("A check without an answer for so long has failed.")] = (
        Interval(1)
    )
    rise: Annotated[int, doc("Passes in a row that make it healthy.", ge=1, le=1000)] = 2
    fall: Annotated[int, doc("Failures in a row that make it unhealthy.", ge=1, le=1000)] = 3
    jitter: Annotated[
        Percent, doc("Each interval is lengthened at random by up to this share.")
    ] = Percent(10)
    expected: Annotated[
        tuple[Status, ...],
        doc(
            "The status that means healthy, or the first and last of a range.",
            single=True,
            min_length=1,
            max_length=2,
        ),
    ] = (200, 299)


class Health(Section, frozen=True, kw_only=True):
    """When an endpoint counts as able to serve."""

    active: ActiveHealth | None = ActiveHealth()
    outlier: Outlier | None = Outlier()
    panic_threshold: Annotated[
        Percent,
        doc(
            "With a smaller share of healthy endpoints, at one priority and not made up for by the "
            "others, health is ignored; 0% disables this."
        ),
    ] = Percent(50)
    fail_traffic_on_panic: Annotated[
        bool, doc("Refuse requests (503) instead of ignoring health.")
    ] = False


class Scrape(Section, frozen=True, kw_only=True):
    """Reading of the engines' own metrics; off switches it off."""

    path: Annotated[Path | None, doc("What to GET; /metrics if not given.")] = None
    interval: Annotated[Interval, doc("Between the scrapes of one endpoint.")] = Interval(1)
    timeout: Annotated[Interval, doc("A scrape without an answer for so long has failed.")] = (
        Interval(1)
    )
    stale_after: Annotated[Interval, doc("An older report counts as unknown, never as zero.")] = (
        Interval(5)
    )


class BackPressure(Section, frozen=True, kw_only=True):
    """An endpoint that answers 429, or 503 with Retry-After, gets nothing until it says; off: it
    does.

    Where all endpoints push back, the one that comes back first is used: this never turns a
    request away by itself.
    """

    default: Annotated[Interval, doc("For how long, where it does not say.")] = Interval(1)
    min: Annotated[Interval, doc("For no shorter time, whatever it says.")] = Interval(0.1)
    max: Annotated[Interval, doc("For no longer time, whatever it says.")] = Interval(30)


class ClusterSpec(Section, frozen=True, kw_only=True):
    """Endpoints that serve the same models, and how to choose among them."""

    name: Annotated[Name, doc("Unique among clusters.")]
    endpoints: Annotated[
        tuple[EndpointSpec, ...],
        doc("At least one, unless they are discovered.", max_length=10_000),
    ] = ()
    discovery: Annotated[
        AnyDiscovery | None, doc("Where endpoints are looked up, instead of `endpoints`.")
    ] = None
    handover: Annotated[
        Duration,
        doc(
            "For how long endpoints that leave are kept while none of those that replace them has "
            "passed a health check; 0: not at all."
        ),
    ] = Duration(300)
    engine: Annotated[
        AnyEngine,
        doc("What the engines are: where they tell their health, and in which words their load."),
    ] = "vllm"
    models: Annotated[
        tuple[Text, ...],
        doc("The models that the cluster declares to serve.", single=True),
    ] = ()
    adapters: Annotated[
        dict[Text, Text],
        doc(
            "LoRA adapters that the engines serve as models of their own, each with its base "
            "model: a route for that takes requests for the adapter too."
        ),
    ] = {}
    balancer: Annotated[AnyBalancer, doc("How an endpoint is chosen.")] = PredictedTtft.Spec()
    health: Health = Health()
    scrape: Scrape | None = Scrape()
    load_report: Annotated[
        Literal["off", "orca"],
        doc(
            "orca: ask for the load in the head of every answer (`endpoint-load-metrics`), fresher "
            "than any scrape; for engines that send it, as warmpath-engine and vLLM do."
        ),
    ] = "off"
    kv_events: Annotated[KvEventsSpec | None, doc("off: what caches hold is estimated.")] = None
    limits: Annotated[
        tuple[RateLimitSpec, ...],
        doc(
            "Rate limits of all that routes send here together, beside what routes and tenants "
            "limit.",
            single=True,
        ),
    ] = ()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    queue: Queue = Queue()
    back_pressure: BackPressure | None = BackPressure()
    localities: Localities | None = None
    tls: Annotated[UpstreamTls | None, doc("off: the engines are spoken to in the clear.")] = None
    auth: Annotated[
        UpstreamAuth | None,
        doc("off: clients' credentials are passed on, unless there are tenants."),
    ] = None
    session: Annotated[
        AnySession | None, doc("Keeps a client's requests at one endpoint, with any balancer.")
    ] = None
