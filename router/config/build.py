"""From a configuration to a snapshot: the core's own frozen types, built whole."""

from urllib.parse import urlsplit

from router.config import access, outlier, queueing
from router.config.build_actions import build_cors
from router.config.build_listeners import build_listener
from router.config.build_matches import Terms
from router.config.build_routes import build_route
from router.config.clusters import ClusterSpec, EndpointSpec
from router.config.engines import ENGINES
from router.config.findings import ConfigError, Finding, render
from router.config.locality import LocalitySpec, locality, priorities
from router.config.references import problems, snapshot_problems
from router.config.routes import DestinationSpec, RouteSpec
from router.config.schema import Admin, Config, Limits
from router.config.session import session
from router.config.units import Address
from router.core.admission.shared_store import SharedStore
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.cluster import ActiveHealth, Cluster, Scrape, UpstreamTls
from router.core.health.strain import BackPressure
from router.core.listener import ListenerLimits
from router.core.model import Endpoint, EndpointId
from router.core.routing import (
    RouteTable,
)
from router.core.snapshot import Snapshot


def build(config: Config, generation: int) -> Snapshot:
    """Make the snapshot.

    Args:
        generation: grows by one with each accepted reload.

    Raises:
        ConfigError: with paths, but without places in a text. ``load`` finds the same problems
            and knows the places, so what it returned builds.
    """
    if found := snapshot_problems(config):
        raise ConfigError(
            Finding(path=render(one.path), message=one.message, suggestion=one.suggestion)
            for one in found
        )
    terms = Terms(config)
    cors = None if config.cors is None else build_cors(config.cors)
    return Snapshot(
        generation=generation,
        clusters={spec.name: _cluster(spec, config.locality) for spec in config.clusters},
        routes=RouteTable(
            [build_route(spec, terms, cors) for spec in config.routes], config.aliases
        ),
        cors=cors,
        limits=_limits(config.limits),
        tenant_limits={
            tenant.name: tenant.limits.build(tenant.name)
            for tenant in config.tenants
            if tenant.limits is not None
        },
        estimates=config.token_estimates.build(),
        shared_store=SharedStore() if config.redis is None else config.redis.build(),
        listeners=tuple(build_listener(spec, config) for spec in config.listeners),
        access=access.build_access(config.tenants, config.auth),
        issuers=access.build_issuers(config.auth),
    )


def from_backends(urls: tuple[str, ...] | list[str]) -> Config:
    """The configuration of ``serve --backend``: one cluster ``default`` that takes everything.

    Args:
        urls: ``http://host:port``, ``http://host`` (port 80) or ``host:port``.

    Raises:
        ConfigError: for no URL, one that is not such, or the same twice.
    """
    endpoints: list[EndpointSpec] = []
    findings: list[Finding] = []
    for url in urls:
        try:
            endpoints.append(EndpointSpec(address=_backend(url)))
        except ValueError as error:
            findings.append(Finding(message=f"--backend {url}: {error}"))
    if not urls:
        findings.append(Finding(message="at least one --backend is needed"))
    if findings:
        raise ConfigError(findings)
    config = Config(
        version=1,
        admin=Admin(),
        clusters=(
            ClusterSpec(name="default", endpoints=tuple(endpoints), balancer=PredictedTtft.Spec()),
        ),
        routes=(RouteSpec(name="default", to=(DestinationSpec(cluster="default"),)),),
    )
    if found := problems(config):
        raise ConfigError(Finding(message=f"--backend: {one.message}") for one in found)
    return config


def _backend(url: str) -> Address:
    if "://" not in url:
        return Address.parse(url)
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise ValueError(f"the scheme must be http, not {parts.scheme!r}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("a backend is http://host:port without path, query or user")
    if parts.hostname is None:
        raise ValueError("no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address.parse(f"{host}:{80 if parts.port is None else parts.port}")


def _cluster(spec: ClusterSpec, own: LocalitySpec | None) -> Cluster:
    active, rules, pages = spec.health.active, spec.localities, ENGINES[spec.engine]
    page = None if spec.scrape is None else spec.scrape.path or pages.metrics
    levels = priorities(spec.endpoints, rules, own)
    return Cluster(
        name=spec.name,
        endpoints=tuple(
            _endpoint(spec.name, endpoint, priority)
            for endpoint, priority in zip(spec.endpoints, levels, strict=True)
        ),
        balancer=spec.balancer,
        engine=spec.engine,
        models=spec.models,
        adapters=spec.adapters,
        health=None
        if active is None
        else ActiveHealth(
            path=active.path or pages.health,
            interval=float(active.interval),
            timeout=float(active.timeout),
            rise=active.rise,
            fall=active.fall,
            jitter=active.jitter / 100,
            expected=(active.expected[0], active.expected[-1]),
        ),
        outlier=None if spec.health.outlier is None else outlier.policy(spec.health.outlier),
        scrape=None
        if spec.scrape is None or page is None
        else Scrape(
            path=page,
            interval=float(spec.scrape.interval),
            timeout=float(spec.scrape.timeout),
            stale_after=float(spec.scrape.stale_after),
        ),
        limits=tuple(
            limit.build(f"cluster {spec.name}#{number}")
            for number, limit in enumerate(spec.limits, 1)
        ),
        breaker=queueing.breaker(spec.circuit_breaker),
        queue=queueing.policy(spec.queue),
        panic_threshold=spec.health.panic_threshold / 100,
        fail_traffic_on_panic=spec.health.fail_traffic_on_panic,
        locality_weights=() if rules is None else tuple(rules.weights.items()),
        session=None if spec.session is None else session(spec.session),
        back_pressure=None
        if spec.back_pressure is None
        else BackPressure(
            default=float(spec.back_pressure.default),
            minimum=float(spec.back_pressure.min),
            maximum=float(spec.back_pressure.max),
        ),
        tls=None if spec.tls is None else UpstreamTls(server_name=spec.tls.server_name),
        asks_load=spec.load_report == "orca",
        kv_events=None if spec.kv_events is None else spec.kv_events.build(),
        credential=None if spec.auth is None else spec.auth.line(),
    )


def endpoint_id(cluster: str, spec: EndpointSpec) -> EndpointId:
    """Who an endpoint is, over reloads."""
    return EndpointId(f"{cluster}/{spec.address}" + (f"#{spec.uid}" if spec.uid else ""))


def _endpoint(cluster: str, spec: EndpointSpec, priority: int) -> Endpoint:
    return Endpoint(
        id=endpoint_id(cluster, spec),
        cluster=cluster,
        host=spec.address.host,
        port=spec.address.port,
        weight=spec.weight,
        labels=spec.labels,
        locality=locality(spec.locality),
        priority=priority,
        draining=spec.drain,
    )


def _limits(spec: Limits) -> ListenerLimits:
    return ListenerLimits(
        max_head=int(spec.max_head),
        max_headers=spec.max_headers,
        max_body=int(spec.max_body),
        buffer_body=int(spec.buffer_body),
        max_buffered=int(spec.max_buffered),
        head_timeout=float(spec.timeouts.head),
        body_timeout=float(spec.timeouts.body),
        idle_timeout=float(spec.timeouts.idle),
        write_high=int(spec.write_high),
        expose_decision=spec.expose_decision,
    )
