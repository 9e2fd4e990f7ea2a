"""Who may call the admin API, with which role, and what the audit says of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router.admin.access import UnsafeBind, guard, require_safe_bind
from router.config.schema import Admin, AdminToken
from router.config.tls import ServerTls
from router.config.units import Address, Secret

ADMIN = Admin(
    token=Secret("boss"),
    tokens=(
        AdminToken(name="viewer", role="read", token=Secret("look")),
        AdminToken(name="deployer", role="operate", token=Secret("act")),
    ),
)


class Served:
    def __init__(self) -> None:
        self.admin = ADMIN
        self.told: list[dict[str, Any]] = []
        self.client: TestClient[web.Request, web.Application]

    async def call(self, method: str, path: str, token: str | None) -> aiohttp.ClientResponse:
        headers = {"x-warmpath-admin": "1"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self.client.request(method, path, headers=headers)


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    here = Served()

    async def anything(request: web.Request) -> web.Response:
        return web.Response(text="done")

    def tell(kind: str, /, **fields: Any) -> None:
        here.told.append(fields)

    app = web.Application(middlewares=[guard(lambda: here.admin, tell)])
    app.router.add_route("*", "/{path:.*}", anything)
    async with TestClient(TestServer(app)) as here.client:
        yield here


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/clusters", "look", 200),
        ("GET", "/clusters", None, 401),
        ("GET", "/clusters", "loo", 401),
        ("GET", "/livez", None, 200),
        ("GET", "/ui/app.js", None, 200),
        ("POST", "/reload", "look", 403),
        ("PATCH", "/clusters/c/endpoints/e", "look", 403),
        ("DELETE", "/requests/0-1", "look", 403),
        ("POST", "/chat/completions", "look", 403),
        ("POST", "/explain", "look", 200),
        ("POST", "/validate", "look", 200),
        ("POST", "/reload", "act", 200),
        ("POST", "/reload", "boss", 200),
    ],
)
async def test_roles(method: str, path: str, token: str | None, status: int) -> None:
    async with served() as here:
        assert (await here.call(method, path, token)).status == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("bearer look", 200),
        ("BEARER  look ", 200),
        ("Bearer", 401),
        ("Bearerlook", 401),
        ("look", 401),
        ("Basic look", 401),
        ("Bearer look,boss", 401),
    ],
)
async def test_the_scheme_is_a_word_in_any_case(header: str, status: int) -> None:
    async with served() as here:
        answer = await here.client.get("/clusters", headers={"authorization": header})
        assert answer.status == status


async def test_a_refusal_names_the_role_that_is_needed() -> None:
    async with served() as here:
        answer = await here.call("POST", "/reload", "look")
        error = (await answer.json())["error"]
        assert error["code"] == "role"
        assert error["message"] == "'viewer' has the role read: POST /reload needs operate"


async def test_the_audit_names_the_caller() -> None:
    async with served() as here:
        for token in ("act", "look", "boss", "wrong"):
            await here.call("POST", "/reload", token)
        assert [(call["caller"], call["status"]) for call in here.told] == [
            ("deployer", 200),
            ("viewer", 403),
            ("admin", 200),
            ("-", 401),
        ]


async def test_a_reload_changes_who_may_call() -> None:
    async with served() as here:
        assert (await here.call("GET", "/clusters", "look")).status == 200
        here.admin = Admin(token=Secret("other"))
        assert (await here.call("GET", "/clusters", "look")).status == 401
        assert (await here.call("GET", "/clusters", "other")).status == 200


async def test_addresses_that_may_not_call() -> None:
    async with served() as here:
        here.admin = Admin(token=Secret("boss"), deny=("127.0.0.0/8",))
        assert (await here.call("GET", "/livez", None)).status == 403


CERTIFIED = ServerTls(cert="c", key="k", client_ca="ca")


@pytest.mark.parametrize(
    ("admin", "safe"),
    [
        (Admin(), False),
        (Admin(token=Secret("t")), True),
        (Admin(tokens=ADMIN.tokens), True),
        (Admin(tls=CERTIFIED), True),
        (Admin(tls=ServerTls(cert="c", key="k")), False),
        (Admin(tls=ServerTls(cert="c", key="k", client_ca="ca", require_client_cert=False)), False),
    ],
)
def test_off_loopback_a_caller_has_to_show_something(admin: Admin, safe: bool) -> None:
    import msgspec

    public = msgspec.structs.replace(admin, address=Address("0.0.0.0:9901"))
    if safe:
        require_safe_bind(public)
    else:
        with pytest.raises(UnsafeBind):
            require_safe_bind(public)
