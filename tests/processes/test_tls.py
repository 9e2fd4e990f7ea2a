"""TLS through a whole router: both sides of it, renewal, tokens of an issuer, the admin API."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router.config.tls_material import server_context
from tests.access.authority import Authority
from tests.access.issuer import Key, key_set
from tests.processes.router_process import RouterProcess, serving, until

AUTHORITY = Authority()
LOCAL = AUTHORITY.issue("127.0.0.1")
KEY = "engine-key"


class TlsEngine:
    """An engine that speaks TLS, wants a key and remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.address = ""
        self.go_on = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return web.Response(status=401)
        self.asked.add(request.path)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        if request.path != "/v1/chat/completions" or not (await request.json()).get("stream"):
            return web.json_response({"ok": True})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await until(lambda: self.go_on)
        await response.write(b"data: [DONE]\n\n")
        return response

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["TlsEngine"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(
            runner, "127.0.0.1", 0, ssl_context=server_context(AUTHORITY.server(LOCAL))
        )
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def configuration(folder: Path, engine: str, more: str = "") -> str:
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    (folder / "engine-key").write_text(KEY)
    cert, key = AUTHORITY.files(folder, "api", "127.0.0.1", common_name="first")
    return f"""
version: 1
workers: 2
listeners: [{{name: api, address: "127.0.0.1:0", tls: {{cert: {cert}, key: {key}}}}}]
drain: {{min_drain: 0s, timeout: 10s}}
clusters:
  - name: demo
    endpoints: ["{engine}"]
    tls: {{ca: {folder}/ca.pem}}
    auth: {{bearer: "file:{folder}/engine-key"}}
    health: {{active: {{interval: 100ms, timeout: 2s}}}}
    scrape: {{interval: 100ms, timeout: 2s}}
routes: [{{name: all, to: demo}}]
{more}
"""


PLAIN_ADMIN = 'admin: {address: "127.0.0.1:0"}'


def chat(router: RouterProcess, stream: bool = False, **headers: str) -> Any:
    """A request to make with ``async with``."""
    return router.session.post(
        f"{router.api}/v1/chat/completions",
        json={"model": "m", "stream": stream},
        ssl=AUTHORITY.trusting(),
        headers=headers,
    )


async def shown(router: RouterProcess) -> str:
    """The common name in the certificate that a new connection is shown."""
    port = int(router.api.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=AUTHORITY.trusting())
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return str(certificate["subject"][0][0][1])


async def test_both_sides_and_a_renewal_that_drops_nobody(tmp_path: Path) -> None:
    async with TlsEngine().serve() as engine:
        text = configuration(tmp_path, engine.address, PLAIN_ADMIN)
        async with serving(tmp_path, text) as router:
            assert router.api.startswith("https://")
            assert await shown(router) == "first"
            # Health checks, scrapes and model lists speak TLS and show the key, too.
            await until(lambda: {"/health", "/metrics", "/v1/models"} <= engine.asked)
            async with chat(router, stream=True) as stream:
                assert await stream.content.readuntil(b"\n\n") == b"data: first\n\n"
                (tmp_path / "api.key").write_text("half a file")
                AUTHORITY.files(tmp_path, "api", "127.0.0.1", common_name="second")
                await until(lambda: renewed(router))
                _, told = await router.text("/events?last=50&follow=no&kinds=certificate")
                assert '"state":"renewed"' in told
                engine.go_on = True
                assert await stream.content.read() == b"data: [DONE]\n\n"


async def renewed(router: RouterProcess) -> bool:
    """Whether both workers show it, as far as ten connections can tell."""
    return {await shown(router) for _ in range(10)} == {"second"}


async def test_files_that_do_not_fit_leave_the_last_good_certificate(tmp_path: Path) -> None:
    async with TlsEngine().serve() as engine:
        text = configuration(tmp_path, engine.address, PLAIN_ADMIN)
        async with serving(tmp_path, text) as router:
            (tmp_path / "api.key").write_text("no key at all")
            await until(lambda: any("cannot be used, the last stay" in line for line in router.log))
            assert await shown(router) == "first"
            status, answer = await router.ask("POST", "/reload", {})
            assert status == 409
            assert "no PEM certificate and key" in answer["error"]["message"]
            assert await shown(router) == "first"


async def test_tokens_of_an_issuer_whose_keys_change(tmp_path: Path) -> None:
    old, new = Key(kid="old"), Key(kid="new")
    served = key_set(old.public())

    async def keys(request: web.Request) -> web.Response:
        return web.Response(body=served) if served else web.Response(status=503)

    issuer = web.Application()
    issuer.router.add_get("/keys", keys)
    runner = web.AppRunner(issuer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    tenants = f"""
{PLAIN_ADMIN}
tenants: [{{name: acme}}]
auth:
  jwt: {{issuer: "https://issuer.test", audiences: warmpath, jwks: "{url}", refresh: 200ms}}
"""

    async def status(key: Key) -> int:
        token = key.sign(exp=time.time() + 60).decode()
        async with chat(router, authorization=f"Bearer {token}") as answer:
            return answer.status

    async def takes(key: Key) -> bool:
        return await status(key) == 200

    async def refuses(key: Key) -> bool:
        return await status(key) == 401

    async with TlsEngine().serve() as engine:
        text = configuration(tmp_path, engine.address, tenants)
        async with serving(tmp_path, text) as router:
            await until(lambda: takes(old))
            assert await status(new) == 401
            served = key_set(old.public(), new.public())
            await until(lambda: takes(new))
            # The issuer is down: its last keys stay good.
            served = b""
            sample = 'warmpath_issuer_fetches_total{issuer="https://issuer.test",result="failed"}'
            await until(lambda: failed(router, sample))
            assert await status(new) == 200
            served = key_set(new.public())
            await until(lambda: refuses(old))
    await runner.cleanup()


async def failed(router: RouterProcess, sample: str) -> bool:
    return await router.metric(sample) > 0


async def test_the_admin_api_over_tls_with_certificates_and_roles(tmp_path: Path) -> None:
    cert, key = AUTHORITY.files(tmp_path, "admin", "127.0.0.1", common_name="first")
    tls = f"{{cert: {cert}, key: {key}, client_ca: {tmp_path}/ca.pem}}"
    admin = f'admin: {{address: "127.0.0.1:0", tls: {tls}}}'
    own = AUTHORITY.trusting(AUTHORITY.issue("spiffe://test/operator"))
    async with (
        TlsEngine().serve() as engine,
        serving(tmp_path, configuration(tmp_path, engine.address, admin)) as router,
    ):
        assert router.admin.startswith("https://")
        with_certificate = {"ssl": own, "headers": {"x-warmpath-admin": "1"}}
        async with router.session.post(f"{router.admin}/drain", **with_certificate) as answer:
            assert answer.status == 200
        await until(lambda: any("spiffe://test/operator" in line for line in router.log))
        mine = AUTHORITY.issue("spiffe://test/cli")
        (tmp_path / "mine.pem").write_bytes(mine.key + mine.cert)
        command = [sys.executable, "-m", "router.cli.main", "status", "--admin", router.admin]
        command += ["--ca", f"{tmp_path}/ca.pem", "--cert", f"{tmp_path}/mine.pem", "-o", "json"]
        status = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        told, _ = await status.communicate()
        assert json.loads(told)["server"]["draining"] is True
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await router.session.get(f"{router.admin}/clusters", ssl=AUTHORITY.trusting())
