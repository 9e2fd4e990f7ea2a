"""Sessions over real sockets: cookies issued once, addresses remembered."""

from router.core.balancers.round_robin import RoundRobin
from router.core.session.policy import Session
from tests.proxy.rig import EngineConnection, Rig, whole

COOKIE = Session(kind="cookie", name="s", attributes="; Max-Age=60; Path=/; HttpOnly")


def named(name: str, status: str = "200 OK"):
    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(whole(name.encode(), status))

    return script


async def test_a_cookie_is_issued_and_keeps_the_client_there(rig: Rig) -> None:
    rig.session = COOKIE
    await rig.start(named("a"), named("b"), named("c"))
    _, headers, first = await rig.post()
    cookie, _, attributes = headers["set-cookie"].partition(";")
    assert attributes == " Max-Age=60; Path=/; HttpOnly"
    assert not any(str(port) in cookie for port in rig.ports)
    for _ in range(5):
        _, headers, body = await rig.post(Cookie=f"x=y; {cookie}")
        assert body == first
        assert "set-cookie" not in headers
    others = [await rig.post() for _ in range(3)]
    assert {body for _, _, body in others} == {b"a", b"b", b"c"}
    assert all("set-cookie" in headers for _, headers, _ in others)
    assert rig.recorder.records[0].reason.endswith(", new session")
    assert rig.recorder.records[1].reason == "session"


async def test_an_error_issues_no_cookie(rig: Rig) -> None:
    rig.session = COOKIE
    await rig.start(named("a", "500 Internal Server Error"))
    status, headers, _ = await rig.post()
    assert status == 500 and "set-cookie" not in headers


async def test_an_address_keeps_its_endpoint_until_that_is_down(rig: Rig) -> None:
    rig.session = Session(kind="source_address", ttl=60.0)
    await rig.start(named("a"), named("b"))
    [first] = {(await rig.post())[2] for _ in range(4)}
    used = next(h for h in rig.fleet.hosts.values() if h.outcomes[0])
    rig.fleet.set_health(used.id, False)
    [second] = {(await rig.post())[2] for _ in range(4)}
    assert second != first
    rig.fleet.set_health(used.id, True)
    assert (await rig.post())[2] == second
    assert isinstance(rig.director.traffic("c").balancer, RoundRobin)
