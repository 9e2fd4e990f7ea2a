# ruff: noqa: E501
"""For each lint rule what it finds, and the nearest thing that is good.

A text is the minimal configuration with parts replaced. ``BASE`` itself gives no advice.
"""

BASE = """\
version: 1
listeners: [{name: api, address: "127.0.0.1:8080"}]
clusters:
  - name: chat
    endpoints: ["10.0.0.1:8000", "10.0.0.2:8000"]
  - name: spare
    endpoints: ["10.0.0.8:8000", "10.0.0.9:8000"]
routes:
  - {name: first, match: {model: a}, to: chat}
  - {name: second, match: {model: b}, to: spare}
"""

FIRST = "{name: first, match: {model: a}, to: chat}"
SECOND = "{name: second, match: {model: b}, to: spare}"
CHAT = '["10.0.0.1:8000", "10.0.0.2:8000"]'


def first(more: str) -> tuple[str, str]:
    """The first route with more fields."""
    return FIRST, FIRST[:-1] + f", {more}}}"


def match(conditions: str, route: str = FIRST) -> tuple[str, str]:
    """A route's match, as a whole."""
    start, _, rest = route.partition("match: {")
    return route, f"{start}match: {{{conditions}}}{rest[rest.index('}') + 1 :]}"


def chat(more: str) -> tuple[str, str]:
    """The first cluster with more fields."""
    return CHAT, f"{CHAT}\n    {more}"


def top(line: str) -> tuple[str, str]:
    return "version: 1", f"version: 1\n{line}"


LABELLED = (
    '[{address: "10.0.0.1:8000", labels: {v: "1"}}, {address: "10.0.0.2:8000", labels: {v: "2"}}]'
)
SAME_LABEL = LABELLED.replace('"2"', '"1"')
SUBSET = (FIRST, FIRST.replace("to: chat", 'to: {cluster: chat, subset: {v: "1"}}'))
PUBLIC = ("127.0.0.1:8080", "0.0.0.0:8080")
ONE = (CHAT, '["10.0.0.1:8000"]')

SPARE = '["10.0.0.8:8000", "10.0.0.9:8000"]'
RANKED = '["10.0.0.1:8000", {address: "10.0.0.2:8000", priority: 1}]'
PLACED = '[{address: "10.0.0.1:8000", locality: us/a}, {address: "10.0.0.2:8000", locality: us/b}]'

# code, the changes that give it, what stands at its place, changes near by that do not
TENANT = top("tenants: [{name: t, keys: {sha256: " + "0" * 64 + "}}]")

EXAMPLES = [
    ("WP001", [match("model: b")], "{name: second", [match("model: c")]),
    ("WP001", [match('model: "*"')], "{name: second", [match('model: "c*"')]),
    ("WP001", [match("model: b, methods: [POST, GET]"), match("model: b, methods: POST", SECOND)], "{name: second",
     [match("model: b, methods: POST"), match("model: b, methods: [POST, GET]", SECOND)]),
    ("WP001", [match("path: {prefix: /v1/}"), match("path: /v1/embeddings", SECOND)], "{name: second",
     [match("path: {prefix: /v1/}"), match("path: {prefix: /v}", SECOND)]),
    ("WP001", [match("headers: {x-a: {present: true}}"), match("headers: {X-A: one}", SECOND)], "{name: second",
     [match("headers: {x-a: one}"), match("headers: {x-a: {present: true}}", SECOND)]),
    ("WP001", [match("path: {suffix: ings}"), match("path: {suffix: /embeddings}", SECOND)], "{name: second",
     [match("path: {contains: emb, invert: true}"), match("path: {suffix: /embeddings}", SECOND)]),
    ("WP001", [match('host: "*.a.com"'), match("host: x.a.com", SECOND)], "{name: second",
     [match('host: "*.a.com"'), match("host: x.b.com", SECOND)]),
    ("WP002", [match("path: v1/chat")], "v1/chat}, to: chat}", [match("path: /v1/chat")]),
    ("WP002", [match("path: {prefix: '/v1/x?y='}")], "{prefix: '/v1/x?y='}}, t", [match("path: {prefix: '/v1/x'}")]),
    ("WP002", [match("path: /v1/models")], "/v1/models}, to: chat}", [match("path: {exact: /v1/models, invert: true}")]),
    ("WP002", [match("headers: {x-warmpath-tier: gold}")], "gold}}, to: chat}", [match("headers: {x-tier: gold}")]),
    ("WP003", [match("")], "{name: first", [match("", SECOND)]),
    ("WP004", [(SECOND, SECOND.replace("spare", "chat"))], "name: spare", []),
    ("WP005", [(CHAT, LABELLED), SUBSET], '{v: "1"}}}', [(CHAT, SAME_LABEL), SUBSET]),
    ("WP006", [ONE, first("retry: {on: 5xx}")], "{on: 5xx}}", [ONE, first("retry: {on: reset}")]),
    ("WP006", [ONE, first("retry: {on: [reset, 503]}")], "{on: [reset, 503]}}", [ONE, first("retry: {on: 5xx, attempts: 0}")]),
    ("WP007", [first("timeouts: {total: 60s}, retry: {per_try_timeout: 60s}")], "60s}}",
     [first("timeouts: {total: 60s}, retry: {per_try_timeout: 30s}")]),
    ("WP008", [first("timeouts: {total: 60s}")], "60s}}", [first("timeouts: {total: 60s, first_byte: 40s}")]),
    ("WP009", [(FIRST, FIRST.replace("to: chat", "to: {cluster: chat, weight: 9}"))], "9}}",
     [(FIRST, FIRST.replace("to: chat", "to: [{cluster: chat, weight: 9}, spare]"))]),
    ("WP010", [(FIRST, FIRST.replace("to: chat", "to: [chat, spare, chat]"))], "chat]}",
     [(FIRST, FIRST.replace("to: chat", "to: [chat, spare]"))]),
    ("WP011", [chat("health: {panic_threshold: 60%}")], "60%}", [chat("health: {panic_threshold: 50%}")]),
    ("WP012", [first("timeouts: {first_byte: 5s}")], "{name: first", [first("timeouts: {first_byte: 60s}")]),
    ("WP012", [first("retry: {per_try_timeout: 5s}")], "{name: first",
     [match("path: /v1/embeddings"), ("path: /v1/embeddings}, to: chat", "path: /v1/embeddings}, to: chat, timeouts: {first_byte: 5s}")]),
    ("WP013", [chat("circuit_breaker: {max_pending: 0, max_connections: 8}")], "0, max_connections: 8}",
     [chat("circuit_breaker: {max_pending: 9, max_connections: 8}")]),
    ("WP014", [chat("circuit_breaker: {max_requests: 10}")], "10}",
     [chat("circuit_breaker: {max_requests: 2000}")]),
    ("WP085", [chat("queue: {fair_by: [user, address]}")], "[user, address]}",
     [chat("queue: {fair_by: [tenant, user]}")]),
    ("WP086", [chat("queue: {comments: 40s}")], "40s}", [chat("queue: {comments: 2s}")]),
    ("WP015", [top('admin: {address: "0.0.0.0:9901", token: "${TOKEN}"}')], '"0.0.0.0:9901", token: "',
     [top('admin: {address: "127.0.0.1:9901", token: "${TOKEN}"}')]),
    ("WP016", [top("limits: {expose_decision: true}"), PUBLIC], "true}", [top("limits: {expose_decision: true}")]),
    ("WP017", [chat("health: {active: {interval: 1s, timeout: 2s}}")], "1s, timeout: 2s}}",
     [chat("health: {active: {interval: 2s, timeout: 2s}}")]),
    ("WP017", [chat("scrape: {interval: 1s, timeout: 2s}")], "1s, timeout: 2s}", [chat("scrape: off")]),
    ("WP018", [first("timeouts: {idle: 0}")], "0}}", [first("timeouts: {idle: 0, total: 1h}")]),
    ("WP019", [first("timeouts: {first_byte: 0}")], "0}}",
     [first("timeouts: {first_byte: 0}, retry: {per_try_timeout: 60s}")]),
    ("WP020", [("10.0.0.8:8000", "10.0.0.1:8000")], '"10.0.0.1:8000", "10.0.0',
     [("10.0.0.8:8000", "10.0.0.1:8000"), chat("models: a"), ('"10.0.0.9:8000"]', '"10.0.0.9:8000"]\n    models: b')]),
    ("WP021", [top("admin: off\naccess_log: {path: off}")], "off}",
     [top('admin: off\naccess_log: {path: off}\nmetrics: {address: "127.0.0.1:9090"}')]),
    ("WP022", [(CHAT, SAME_LABEL)], 'v: "1"}}, {address: "10.', [(CHAT, SAME_LABEL), SUBSET]),
    ("WP023", [chat("health: {active: off}")], "off}", [ONE, (ONE[1], ONE[1] + "\n    health: {active: off}")]),
    ("WP024", [chat("models: [a, z]")], "z]", [chat("models: [a]")]),
    ("WP025", [first("limits: [{max_tokens: 1, tokens_per_fill: 1, per: user}]")], "[{max_tokens: 1, tokens_",
     [first("limits: [{max_tokens: 1, tokens_per_fill: 1, per: user}, {max_tokens: 9, tokens_per_fill: 9}]")]),
    ("WP025", [first("limits: [{rate: 1/s, per: user}]"), chat("limits: [{rate: 9/s, per: user}]")], "[{rate: 1",
     [first("limits: [{rate: 1/s, per: user}]"), chat("limits: 9/s")]),
    ("WP026", [first("retry: {on: [reset, 404]}")], "404]}}", [first("retry: {on: [reset, 429]}")]),
    ("WP027", [top("limits: {max_buffered: 1KiB}")], "1KiB}",
     [top("limits: {max_buffered: 1KiB, buffer_body: 1KiB}")]),
    ("WP028", [top("limits: {timeouts: {body: 0}}"), PUBLIC], "0}}", [top("limits: {timeouts: {body: 0}}")]),
    ("WP029", [first("retry: {on: [reset, refused-stream]}")], "refused-stream]}}", [first("retry: {on: [reset]}")]),
    ("WP030", [first("timeouts: {total: 1s, first_byte: 900ms}, retry: {back_off: {base_interval: 1s}}")], "1s}}}",
     [first("timeouts: {total: 60s, first_byte: 50s}, retry: {back_off: {base_interval: 1s}}")]),
    ("WP040", [first("fault: {abort: {status: 503}}")], "{status: 503}",
     [first("fault: {abort: {status: 503}, headers: {x-chaos: 'on'}}")]),
    ("WP040", [first("fault: {cut: {after: 3}}")], "{after: 3}",
     [first("fault: {cut: {after: 3, percent: 5%}, delay: {duration: 1s}}")]),
    ("WP041", [(CHAT, RANKED), ("1}]", "1}]\n    health: {active: off, outlier: off}")], "{active: off, outlier: off}",
     [(CHAT, RANKED), ("1}]", "1}]\n    health: {active: off, outlier: {consecutive_5xx: 3}}")]),
    ("WP042", [(CHAT, PLACED + "\n    localities: {weights: {us/a: 1}}")], "{address: \"10.0.0.2:8000",
     [(CHAT, PLACED + "\n    localities: {weights: {us: 1}}")]),
    ("WP043", [top("locality: us"), (CHAT, PLACED + "\n    localities: {failover: {us: eu, eu: us}}")], "eu, eu: us}",
     [top("locality: us"), (CHAT, PLACED + "\n    localities: {failover: {eu: us}}")]),
    ("WP044", [chat("session: {type: cookie}"), (SPARE, SPARE + "\n    session: {type: cookie}")], "{type: cookie}",
     [chat("session: {type: cookie}"), (SPARE, SPARE + "\n    session: {type: cookie, name: other}")]),
    ("WP045", [ONE, first("hedge: 2s")], "2s}", [first("hedge: 2s")]),
    ("WP046", [first("timeouts: {first_byte: 40s}, hedge: 40s")], "40s}", [first("timeouts: {first_byte: 50s}, hedge: 40s")]),
    ("WP050", [first("limits: [{unit: tokens, rate: 200/min}, 9/s]")], "{unit: tokens, rate: 200/min}, 9",
     [first("limits: [{unit: tokens, rate: 200/min, burst: 2k}, 9/s]")]),
    ("WP050", [first("limits: [{unit: tokens, rate: 200/min}, 9/s]")], "{unit: tokens, rate: 200/min}, 9",
     [top("token_estimates: {output: 100}"), first("limits: [{unit: tokens, rate: 200/min}, 9/s]")]),
    ("WP050", [top("tenants: [{name: t, limits: {requests: 9/s, tokens: 100/s}}]")], "100/s",
     [top("tenants: [{name: t, limits: {requests: 9/s, tokens: 1k/s}}]")]),
    ("WP051", [top('redis: "r:6379"'), first("limits: {rate: 9/s, scope: global}")], '"r:6379"',
     [top('redis: {address: "r:6379", machines: 2}'), first("limits: {rate: 9/s, scope: global}")]),
    ("WP052", [top('redis: {address: "r:6379", on_failure: deny}\ngossip: {redis: false}')], '{address: "r:6379"',
     [top('redis: {address: "r:6379", on_failure: deny}'), first("limits: {rate: 9/s, scope: global}")]),
    ("WP052", [top('redis: "r:6379"\ngossip: {redis: false}')], '"r:6379"', [top('redis: "r:6379"')]),
    ("WP060", [top("aliases: {x: aa}")], "aa}", [top("aliases: {x: a}")]),
    ("WP061", [top("aliases: {a: b}")], "b}", [top("aliases: {x: b}")]),
    ("WP062", [chat("models: [a]"), first("rewrite: {model: c}")], "c}}", [chat("models: [a]"), first("rewrite: {model: a}")]),
    ("WP062", [chat("models: [a]"), (FIRST, FIRST.replace("to: chat", "to: {cluster: chat, model: c}"))], "c}}",
     [(FIRST, FIRST.replace("to: chat", "to: {cluster: chat, model: c}"))]),
    ("WP063", [(SECOND, SECOND + "\n  - {name: moved, match: {path: /old}, redirect: {path: /new}}")], "{path: /new}}",
     [(SECOND, SECOND + "\n  - {name: moved, match: {path: /old}, redirect: {path: /new, status: 308}}")]),
    ("WP064", [top("cors: {allow_origins: '*', allow_credentials: true}")], "'*', allow", [top("cors: {allow_origins: '*'}")]),
    ("WP065", [match("model: a, fraction: 100%")], "100%}", [match("model: a, fraction: 99%")]),
    ("WP066", [top("sizes: {large: {}, small: {max_tokens: {max: 9}}}")], "{max_tokens: {max: 9}}",
     [top("sizes: {small: {max_tokens: {max: 9}}, large: {}}")]),
    ("WP002", [match("adapter: sql")], "sql}, to: chat}", [match("adapter: sql"), chat("adapters: {sql: a}")]),
    ("WP001", [match("query: {v: '1'}"), match("query: {v: '1'}, model: b", SECOND)], "{name: second",
     [match("fraction: 50%"), match("fraction: 50%", SECOND)]),
    ("WP081", [first("fallbacks: [spare, chat]")], "chat]}", [first("fallbacks: [spare, {cluster: chat, model: b}]")]),
    ("WP067", [match("path: {regex: '/v1/(a+)+'}")], "{regex:", [match("path: {regex: '/v1(/[^/]+)+'}")]),
    ("WP067", [first("rewrite: {regex: {pattern: '(/?x)*(a*)*', substitution: y}}")], "{pattern:", [first("rewrite: {regex: {pattern: '(/x)*a*', substitution: y}}")]),
    ("WP067", [first("cors: {allow_origins: [{regex: '(https?.*)+'}]}")], "{regex:", [first("cors: {allow_origins: [{regex: 'https?://.*'}]}")]),
    ("WP070", [TENANT, PUBLIC], '"0.0.0.0:8080"', [TENANT]),
    ("WP070", [TENANT, PUBLIC], '"0.0.0.0:8080"', [TENANT, PUBLIC, top("auth: off")]),
    ("WP071", [TENANT, PUBLIC, top("auth: off")], '"0.0.0.0:8080"', [TENANT, PUBLIC]),
    ("WP071", [TENANT, PUBLIC, top("auth: off")], '"0.0.0.0:8080"',
     [TENANT, ('"127.0.0.1:8080"', '"0.0.0.0:8080", allow: 10.0.0.0/8'), top("auth: off")]),
    ("WP072", [top("tenants: [{name: t}]")], "t}]", [TENANT]),
    ("WP072", [top("tenants: [{name: t}]")], "t}]",
     [top("tenants: [{name: t}]\nauth: {jwt: {issuer: i, audiences: a, jwks: 'https://i/k'}}")]),
    ("WP073", [top("tenants: [{name: t, keys: '${TOKEN}'}]")], "'${TOKEN}'", [TENANT]),
    ("WP074", [chat("tls: {verify: false}")], "false}", [chat("tls: {server_name: a}")]),
    ("WP075", [chat("auth: {bearer: '${TOKEN}'}")], "{bearer", [chat("auth: {bearer: '${TOKEN}'}\n    tls: {}")]),
    ("WP076", [TENANT, top("auth: {jwt: {issuer: i, audiences: a, jwks: 'http://i/k'}}")], "'http:",
     [TENANT, top("auth: {jwt: {issuer: i, audiences: a, jwks: 'http://127.0.0.1/k'}}")]),
    ("WP082", [first("mirror: [{cluster: spare}]")], "{cluster: spare}",
     [first("mirror: [{cluster: spare, max_tokens_per_minute: 10k}]")]),
    ("WP090", [chat("balancer: {type: cache_aware}\n    circuit_breaker: {per_endpoint: {max_requests: 64}}")],
     "{type: cache_aware}", [chat("balancer: {type: cache_aware}\n    circuit_breaker: {per_endpoint: {max_requests: 65}}")]),
    ("WP090", [chat("balancer: {type: cache_aware, balance_abs_threshold: 2000}")], "2000}",
     [chat("balancer: {type: cache_aware, balance_abs_threshold: 20}")]),
    ("WP091", [chat("balancer: {type: cache_aware, fallback: smallest_tree}")], "smallest_tree}",
     [chat("balancer: {type: cache_aware, fallback: least_loaded}")]),
    ("WP092", [chat("balancer: {type: scored}")], "{type: scored}",
     [chat("balancer: {type: scored}\n    scrape: {interval: 100ms, timeout: 100ms}")]),
    ("WP092", [chat("balancer: {type: scored, scorers: [{type: running}, {type: token_load, weight: 0}]}")],
     "{type: scored, sc", [chat("balancer: {type: scored, scorers: [{type: running}, {type: token_load}]}")]),
    ("WP093", [chat("balancer: {type: dynamo_cost}")], "{type: dynamo_cost}", [top("workers: 1"), chat("balancer: {type: dynamo_cost}")]),
    ("WP093", [top("workers: 2"), chat("balancer: {type: scored}")], "{type: scored}",
     [top("workers: 2"), chat("balancer: {type: scored, scorers: [{type: in_flight}]}")]),
]  # fmt: skip
