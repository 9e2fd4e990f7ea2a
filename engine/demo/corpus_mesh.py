"""What the bundled model knows of service meshes and operations; entries as in `corpus_serving`."""

from __future__ import annotations

from engine.demo.corpus_balancing import BALANCING
from engine.demo.corpus_serving import SERVING, Entry

MESH: tuple[Entry, ...] = (
    (
        "a sidecar",
        ("a sidecar proxy", "sidecars"),
        "A sidecar is a small proxy that runs beside each program and handles its traffic.",
        "The program itself needs no networking code of that kind.",
    ),
    (
        "a service mesh",
        ("service meshes",),
        "A service mesh is a layer of proxies that connects services and is steered from one "
        "place.",
        "Retries, encryption and routing work the same for all services.",
    ),
    (
        "Envoy",
        ("the Envoy proxy", "Envoy proxy"),
        "Envoy is an open-source proxy for services that many meshes are built on.",
        "Warmpath uses its words and can work as its endpoint picker.",
    ),
    (
        "Istio",
        (),
        "Istio is a service mesh that steers Envoy proxies in Kubernetes.",
        "Warmpath can read and write its routing rules.",
    ),
    (
        "nginx",
        (),
        "nginx is a fast web server and reverse proxy.",
        "It can stand at the edge in front of Warmpath.",
    ),
    (
        "Prometheus",
        (),
        "Prometheus is a monitoring system that collects metrics from servers at regular times.",
        "Warmpath and its engine both offer a page for it.",
    ),
    (
        "xDS",
        ("the xDS protocol",),
        "xDS is the family of protocols by which Envoy gets its configuration.",
        "Configuration can change without a restart.",
    ),
    (
        "a control plane",
        ("the control plane",),
        "A control plane decides on configuration and watches health, but carries no requests.",
        "It may stop for a while, and traffic still flows.",
    ),
    (
        "a data plane",
        ("the data plane",),
        "A data plane is the part that carries the requests and answers themselves.",
        "It must be fast, since every byte goes through it.",
    ),
    (
        "failover",
        ("fail-over",),
        "Failover moves traffic to a backup when the first choice is down.",
        "Users hardly notice that something broke.",
    ),
    (
        "tail latency",
        ("p99", "p99 latency", "the 99th percentile"),
        "Tail latency is the time of the slowest few requests, for example the slowest 1 in 100.",
        "An average can look fine while many users wait.",
    ),
    (
        "distributed tracing",
        ("tracing", "a trace"),
        "Distributed tracing follows one request through all servers that it touches.",
        "It shows where the time went.",
    ),
    (
        "a panic threshold",
        ("panic mode", "the panic threshold"),
        "A panic threshold is the share of healthy endpoints under which health is ignored.",
        "Sending to doubtful endpoints beats crushing the last good ones.",
    ),
    (
        "locality-aware routing",
        ("locality aware routing", "zone-aware routing"),
        "Locality-aware routing prefers endpoints in the same zone as the client.",
        "Near endpoints are faster and cheaper to reach.",
    ),
    (
        "a virtual service",
        ("VirtualService",),
        "A virtual service is Istio's object for routing rules: matches, weights, retries and "
        "timeouts.",
        "Warmpath's routes can be exported as one.",
    ),
    (
        "a destination rule",
        ("DestinationRule",),
        "A destination rule is Istio's object for what happens at the target: balancing, limits, "
        "subsets.",
        "It is the partner of the virtual service.",
    ),
    (
        "a subset",
        ("subsets",),
        "A subset is the part of a cluster's endpoints that carries certain labels.",
        "A route can send to one version only.",
    ),
    (
        "TLS",
        ("transport layer security",),
        "TLS encrypts a connection and proves who the server is.",
        "Nobody on the way can read or change the traffic.",
    ),
    (
        "mTLS",
        ("mutual TLS",),
        "mTLS is TLS in which the client, too, proves who it is with a certificate.",
        "Services then trust only known services.",
    ),
    (
        "a tenant",
        ("tenants", "multi-tenancy"),
        "A tenant is a customer or team that shares the system with others and has its own limits.",
        "Limits per tenant keep the sharing fair.",
    ),
    (
        "a lease",
        ("leases",),
        "A lease is Warmpath's record of one request at one endpoint, given back exactly once.",
        "The counts of requests in flight can then never drift.",
    ),
    (
        "idempotency",
        ("an idempotent request", "idempotent"),
        "Idempotency means that doing a thing twice has the same effect as doing it once.",
        "Only then is a retry always safe.",
    ),
    (
        "autoscaling",
        ("an autoscaler",),
        "Autoscaling adds replicas when the load is high and removes them when it is low.",
        "You pay only for what you need.",
    ),
    (
        "fault injection",
        (),
        "Fault injection makes some requests fail or wait on purpose.",
        "It proves that retries and timeouts work before a real failure comes.",
    ),
    (
        "a queue",
        ("queueing", "queues"),
        "A queue holds requests that must wait until there is room for them.",
        "A short queue smooths bursts, and a long one only adds delay.",
    ),
    (
        "latency",
        (),
        "Latency is the time from asking to getting the answer.",
        "Users leave when it is high.",
    ),
    (
        "a 429 error",
        ("status 429", "HTTP 429", "429"),
        "Status 429 means too many requests: the client has used up its limit and should wait.",
        "The Retry-After header says for how long.",
    ),
    (
        "a 503 error",
        ("status 503", "HTTP 503", "503"),
        "Status 503 means that the service is not available just now.",
        "A router tries another endpoint when it sees one.",
    ),
)

# Every term the model can explain.
TERMS: tuple[Entry, ...] = SERVING + BALANCING + MESH
