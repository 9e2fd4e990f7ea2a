"""Configuration texts that tests start from."""

MINIMAL = """\
version: 1
clusters:
  - name: chat
    endpoints: [10.0.0.1:8000]
routes:
  - name: all
    to: chat
"""

FULL = """\
version: 1
workers: 2
listeners:
  - {name: api, address: 0.0.0.0:8080}
  - {name: inside, address: "[::1]:8081"}
limits:
  max_body: 10MiB
  timeouts: {head: 5s, idle: 0}
  expose_decision: true
admin: {address: 0.0.0.0:9901, token: "${ADMIN_TOKEN}"}
metrics: {address: 127.0.0.1:9090}
drain: {min_drain: 0, timeout: 1m30s}
access_log: {path: off}
clusters:
  - name: llama-8b
    endpoints:
      - {address: 10.0.0.1:8000, labels: {version: v1}, weight: 3}
      - {address: 10.0.0.2:8000, labels: {version: v2}}
      - "[fd00::3]:8000"
    models: llama-8b
    balancer: {type: least_request, choice_count: 3}
    health:
      active: {path: /ping, interval: 500ms, expected: [200, 204]}
      panic_threshold: 25%
    scrape: off
    circuit_breaker: {max_connections: 10, max_pending: 0, max_requests: 20}
  - name: spare
    endpoints: [10.0.0.9:8000]
    health: {active: off}
routes:
  - name: preview
    match:
      model: "llama-*"
      host: "*.example.com"
      methods: [POST, GET]
      path: {prefix: /v1/}
      headers: {X-Version: v2, x-debug: {present: false}, x-tier: {regex: "gold|silver"}}
    to: {cluster: llama-8b, subset: {version: v2}}
    timeouts: {connect: 1s, first_byte: 30s, idle: 0, total: 10m, queue: 250ms}
    retry: {attempts: 1, per_try_timeout: 2.5s, on: [5xx, 429], budget: 12.5%, min_concurrency: 7}
  - name: all
    match: {path: /v1/chat/completions}
    to: [{cluster: llama-8b, weight: 9}, {cluster: spare}]
    retry: off
"""

ENV = {"ADMIN_TOKEN": "open-sesame", "PORT": "8123", "EMPTY": ""}
