"""What the bundled model knows of load balancing; entries as in `corpus_serving`."""

from __future__ import annotations

from engine.demo.corpus_serving import Entry

BALANCING: tuple[Entry, ...] = (
    (
        "a load balancer",
        ("load balancing", "a balancer"),
        "A load balancer spreads requests over several servers so that none is overloaded.",
        "Users get steady answers even when one server is slow or gone.",
    ),
    (
        "a router",
        ("an LLM router", "routing"),
        "A router reads each request and decides which cluster and endpoint shall serve it.",
        "A good choice finds a warm cache and a short queue.",
    ),
    (
        "a reverse proxy",
        ("a proxy",),
        "A reverse proxy takes requests for servers behind it and passes their answers back.",
        "Clients need only one address.",
    ),
    (
        "an endpoint",
        ("endpoints",),
        "An endpoint is one address, host and port, at which a server answers.",
        "The load balancer picks one endpoint per request.",
    ),
    (
        "a cluster",
        ("clusters",),
        "A cluster is a named set of endpoints that can serve the same requests.",
        "Any of its endpoints may take any of its requests.",
    ),
    (
        "a route",
        ("routes",),
        "A route is a rule that says which requests go to which cluster.",
        "It also holds timeouts, retries and limits.",
    ),
    (
        "a replica",
        ("replicas",),
        "A replica is one of several equal copies of a server.",
        "If one copy fails, the others go on.",
    ),
    (
        "round robin",
        ("round-robin", "the round robin policy"),
        "Round robin sends each new request to the next endpoint in turn.",
        "It is simple and fair when all requests cost the same.",
    ),
    (
        "least request",
        ("least-request", "least requests", "least request balancing"),
        "Least request sends a request to the endpoint that has the fewest requests in flight.",
        "Slow endpoints fill up and so get less new work.",
    ),
    (
        "power of two choices",
        ("the power of two choices", "P2C"),
        "Power of two choices picks two endpoints at random and takes the less loaded one.",
        "It is nearly as good as looking at all of them, and far cheaper.",
    ),
    (
        "consistent hashing",
        ("a consistent hash",),
        "Consistent hashing maps keys to endpoints so that few keys move when an endpoint comes "
        "or goes.",
        "Caches stay warm when the fleet changes.",
    ),
    (
        "ring hash",
        ("a hash ring", "ring hashing"),
        "Ring hash puts endpoints on a circle and sends a key to the next endpoint along it.",
        "Removing an endpoint moves only its own keys.",
    ),
    (
        "Maglev",
        ("Maglev hashing", "the Maglev table"),
        "Maglev is a consistent hash that looks the key up in a table filled evenly by all "
        "endpoints.",
        "A look-up is one step, and the load is very even.",
    ),
    (
        "session affinity",
        ("sticky sessions", "stickiness", "session stickiness"),
        "Session affinity sends all requests of one session to the same endpoint.",
        "That endpoint still holds the session's cache.",
    ),
    (
        "prefix affinity",
        ("prefix-aware routing", "prefix routing", "cache-aware routing"),
        "Prefix affinity sends a request to the endpoint that already holds its prompt's prefix.",
        "The warm cache makes the first token come much sooner.",
    ),
    (
        "bounded load",
        ("bounded loads", "consistent hashing with bounded load"),
        "Bounded load lets a hash overflow to another endpoint when its first choice is too busy.",
        "One popular key cannot drown one endpoint.",
    ),
    (
        "EWMA",
        ("an exponentially weighted moving average", "a moving average"),
        "EWMA is an exponentially weighted moving average, in which recent samples count most.",
        "It follows changes quickly and ignores old news.",
    ),
    (
        "peak EWMA",
        ("peak-EWMA",),
        "Peak EWMA is a latency average that jumps up at once on a slow answer and sinks slowly.",
        "A slow endpoint is avoided from its first bad answer on.",
    ),
    (
        "outlier ejection",
        ("outlier detection", "ejection"),
        "Outlier ejection takes an endpoint out for a while when it fails more than the others.",
        "Real traffic shows failures that health checks miss.",
    ),
    (
        "a circuit breaker",
        ("circuit breaking", "circuit breakers"),
        "A circuit breaker limits what may be in flight to a cluster and refuses the rest at once.",
        "A fast refusal is better than a slow collapse.",
    ),
    (
        "a retry",
        ("retries", "retrying"),
        "A retry sends a failed request again, if possible to another endpoint.",
        "It hides short failures, but only before the first byte of an answer.",
    ),
    (
        "a retry budget",
        ("retry budgets",),
        "A retry budget allows retries only up to a share of the normal requests.",
        "Retries can then never become a storm.",
    ),
    (
        "exponential backoff",
        ("backoff", "back-off"),
        "Exponential backoff doubles the wait before each further retry.",
        "It gives a troubled server time to recover.",
    ),
    (
        "jitter",
        (),
        "Jitter is a little randomness added to waits so that clients do not act all at once.",
        "It breaks up waves of retries.",
    ),
    (
        "a thundering herd",
        ("the thundering herd",),
        "A thundering herd is a crowd of clients that all act at the same moment.",
        "It can knock over a server that has just come back.",
    ),
    (
        "a health check",
        ("health checking", "health checks"),
        "A health check asks an endpoint now and then whether it is well.",
        "A sick endpoint gets no more requests until it is well again.",
    ),
    (
        "draining",
        ("a drain", "drain", "connection draining"),
        "Draining gives an endpoint no new requests and lets it finish those it has.",
        "It can then be stopped without hurting anyone.",
    ),
    (
        "graceful shutdown",
        ("a graceful shutdown",),
        "Graceful shutdown stops taking new requests, finishes the open ones and then exits.",
        "A restart then costs no user an answer.",
    ),
    (
        "slow start",
        ("slow-start",),
        "Slow start gives a new endpoint little traffic at first and raises it step by step.",
        "Its caches can warm up before the full load comes.",
    ),
    (
        "a canary",
        ("a canary release", "a canary deployment", "canarying"),
        "A canary sends a small share of the traffic to a new version to see whether it is good.",
        "A bad version then hurts only a few requests.",
    ),
    (
        "a blue-green deployment",
        ("blue-green deployment", "blue green deployment"),
        "A blue-green deployment keeps the old and the new version side by side and switches all "
        "traffic.",
        "Going back is just another switch.",
    ),
    (
        "a weighted split",
        ("traffic splitting", "a traffic split"),
        "A weighted split divides requests between clusters by weight, for example 90 to 10.",
        "It is the tool behind canaries.",
    ),
    (
        "traffic mirroring",
        ("shadow traffic", "mirroring", "shadowing"),
        "Traffic mirroring sends a copy of each request to another cluster and drops its answers.",
        "A new version is tried with real traffic and without risk.",
    ),
    (
        "a timeout",
        ("timeouts",),
        "A timeout is the longest time to wait for a step before giving up.",
        "Without it a hung server would hold its clients for ever.",
    ),
    (
        "a deadline",
        ("deadlines",),
        "A deadline is the moment after which nobody wants the answer any more.",
        "Work past its deadline is wasted and should be dropped.",
    ),
    (
        "back-pressure",
        ("backpressure", "back pressure"),
        "Back-pressure makes a fast sender wait when the receiver cannot keep up.",
        "Memory then stays small even with slow clients.",
    ),
    (
        "hedging",
        ("request hedging", "a hedged request", "hedged requests"),
        "Hedging sends a second copy of a slow request and takes whichever answer comes first.",
        "It cuts the slowest answers at the price of some extra work.",
    ),
    (
        "rate limiting",
        ("a rate limit", "rate limits"),
        "Rate limiting caps how many requests or tokens a client may use per unit of time.",
        "One greedy client cannot starve the others.",
    ),
    (
        "a token bucket",
        ("the token bucket algorithm",),
        "A token bucket fills at a fixed rate, and each request takes tokens from it or has to "
        "wait.",
        "It allows short bursts and bounds the long-run rate.",
    ),
    (
        "admission control",
        (),
        "Admission control decides whether a request may start now, must wait or is refused.",
        "It keeps the engines at a load at which they work well.",
    ),
    (
        "load shedding",
        (),
        "Load shedding refuses some requests on purpose when there is more work than can be done.",
        "Those that are let in still get good answers.",
    ),
    (
        "fair queueing",
        ("fair queuing", "weighted fair queueing"),
        "Fair queueing serves waiting tenants in turn, by weight, and not simply in order of "
        "arrival.",
        "A flood from one tenant does not delay the rest.",
    ),
    (
        "head-of-line blocking",
        ("head of line blocking", "HOL blocking"),
        "Head-of-line blocking means that one slow item at the front holds up all behind it.",
        "Separate connections or queues avoid it.",
    ),
    (
        "keep-alive",
        ("HTTP keep-alive", "keepalive"),
        "Keep-alive leaves a connection open after an answer, so that the next request can use it.",
        "It saves the cost of connecting again.",
    ),
    (
        "a connection pool",
        ("connection pooling",),
        "A connection pool keeps open connections to an endpoint ready for use.",
        "Requests start at once and the number of connections stays bounded.",
    ),
)
