"""What operators do to a router that runs: reload, drain, look, cancel."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry.metrics import CATALOGUE
from tests.processes.router_process import SLOW, configuration, emulator, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "s3cret-of-the-admin"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """Two engines behind a router of one worker, shared by this module's tests."""
    folder = tmp_path_factory.mktemp("router")
    async with emulator("a", SLOW) as a, emulator("b", SLOW) as b:
        text = configuration(a.address, b.address)
        async with serving(folder, text) as router:
            yield router, a, b, folder / "warmpath.yaml", text


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def undo(world):
    """Every test finds the world as it was made."""
    yield
    router, a, b, path, text = world
    path.write_text(text)
    await router.ask("POST", "/reload", {})
    await router.ask("POST", "/undrain", {})
    for engine in (a, b):
        await router.ask("PATCH", endpoint(engine), {"state": "ready", "weight": 1})


def endpoint(engine) -> str:
    return f"/clusters/demo/endpoints/{engine.address}"


class TestEndpoints:
    async def test_drain_moves_traffic_and_finishes_what_is_there(self, world):
        router, a, *_ = world
        streams = [await router.chat(30, stream=True) for _ in range(4)]
        before = (await router.endpoints())[a.address]["in_flight"]
        assert before == 2
        status, shown = await router.ask("PATCH", endpoint(a), {"state": "drain"})
        assert (status, shown["state"]) == (200, "drain")
        assert shown["override"] == {"state": "drain", "weight": None, "expires_in": None}
        assert {await router.served_by() for _ in range(4)} == {"b"}
        for stream in streams:
            assert (await stream.content.read()).endswith(b"data: [DONE]\n\n")
        await until(lambda: idle(router))
        await router.ask("PATCH", endpoint(a), {"state": "ready"})
        assert {await router.served_by() for _ in range(4)} == {"a", "b"}

    async def test_weight_shifts_traffic(self, world):
        router, a, *_ = world
        await router.ask("PATCH", endpoint(a), {"weight": 3})
        names = [await router.served_by() for _ in range(8)]
        assert names.count("a") == 6

    async def test_a_ttl_takes_the_override_back(self, world):
        router, a, *_ = world
        status, shown = await router.ask("PATCH", endpoint(a), {"state": "maint", "ttl": "300ms"})
        assert status == 200
        assert 0 < shown["override"]["expires_in"] <= 0.3

        async def ready() -> bool:
            return (await router.endpoints())[a.address]["state"] == "ready"

        await until(ready)

    @pytest.mark.parametrize(
        ("body", "param", "said"),
        [
            ({"state": "off"}, "state", "ready, drain, maint"),
            ({"state": 1}, "state", "must be one of"),
            ({"weight": 0}, "weight", "from 1 to"),
            ({"weight": True}, "weight", "whole number"),
            ({"weight": 1.5}, "weight", "whole number"),
            ({"state": "drain", "ttl": "soon"}, "ttl", "duration"),
            ({"state": "drain", "ttl": 5}, "ttl", "duration"),
            ({"state": "drain", "ttl": "0s"}, "ttl", "duration"),
            ({"stat": "drain"}, "stat", "unknown field"),
            ({}, "state", "give a state"),
            ({"ttl": "5s"}, "state", "give a state"),
            ([], None, "JSON object"),
        ],
    )
    async def test_bad_patches_name_the_field(self, world, body, param, said):
        router, a, *_ = world
        status, answer = await router.ask("PATCH", endpoint(a), body)
        assert status == 400
        assert answer["error"]["param"] == param
        assert said in answer["error"]["message"]
        assert (await router.endpoints())[a.address]["override"] is None

    async def test_strangers_are_404_and_the_nearest_is_named(self, world):
        router, a, *_ = world
        status, answer = await router.ask("GET", "/clusters/dmo")
        assert (status, answer["error"]["code"]) == (404, "cluster_not_found")
        assert "'demo'" in answer["error"]["message"]
        near = a.address[:-1] + "x"
        status, answer = await router.ask("GET", f"/clusters/demo/endpoints/{near}")
        assert status == 404
        assert "did you mean" in answer["error"]["message"]
        status, answer = await router.ask("GET", "/nothing/here")
        assert (status, answer["error"]["code"]) == (404, "not_found")

    async def test_health_and_load_are_shown(self, world):
        router, a, *_ = world
        await until(lambda: has_load(router, a.address))
        a.add_fault("unhealthy")
        try:
            await until(lambda: health(router, a.address, False))
            shown = (await router.endpoints())[a.address]
            assert "503" in shown["probe_error"]
            assert not shown["usable"]
            await until(lambda: served_only_by(router, "b"))  # workers hear of it a moment later
        finally:
            a.faults.clear()
        await until(lambda: health(router, a.address, True))


class TestReload:
    async def test_sighup_brings_a_new_configuration_in_force(self, world):
        router, a, _, path, text = world
        await router.ask("PATCH", endpoint(a), {"state": "drain"})
        before = (await router.get("/server_info"))["generation"]
        path.write_text(text.replace("timeouts: {connect: 2s}", "timeouts: {connect: 3s}"))
        router.signal(signal.SIGHUP)
        await until(lambda: generation(router, before + 1))
        routes = (await router.get("/routes"))["routes"]
        assert routes[0]["timeouts"]["connect"] == 3.0
        assert (await router.endpoints())[a.address]["state"] == "drain", "overrides survive"
        assert {await router.served_by() for _ in range(4)} == {"b"}
        assert any("~ routes[all].timeouts.connect: 2s -> 3s" in line for line in router.log)

    async def test_a_bad_configuration_changes_nothing(self, world):
        router, _, _, path, text = world
        before = await router.get("/server_info")
        path.write_text(text.replace("connect: 2s", "connect: 2"))
        refused = len([line for line in router.log if "reload refused" in line])
        router.signal(signal.SIGHUP)
        await until(lambda: len([ln for ln in router.log if "reload refused" in ln]) > refused)
        status, answer = await router.ask("POST", "/reload", {})
        assert status == 409
        finding = answer["error"]["findings"][0]
        assert finding["line"] > 1
        assert "connect" in finding["path"] or "connect" in finding["message"]
        assert (await router.get("/server_info"))["generation"] == before["generation"]
        assert (await router.get("/config_dump"))["last_error"]
        assert await router.served_by() in {"a", "b"}
        assert await router.metric('warmpath_config_reloads_total{result="refused"}') >= 2

    async def test_what_needs_a_restart_is_said_and_not_done(self, world):
        router, _, _, path, text = world
        path.write_text(text.replace("workers: 1", "workers: 3"))
        status, answer = await router.ask("POST", "/reload", {})
        assert status == 200
        assert answer["needs_restart"] == ["~ workers: 1 -> 3"]
        assert len((await router.get("/server_info"))["workers"]) == 1
        assert (await router.get("/config_dump"))["config"]["workers"] == 1

    async def test_an_endpoint_comes_and_goes_while_it_serves(self, world):
        router, a, _, path, text = world
        async with router.chat(30, stream=True) as one, router.chat(30, stream=True) as two:
            path.write_text(text.replace(f"      - {a.address}\n", ""))
            status, answer = await router.ask("POST", "/reload", {})
            assert status == 200
            assert answer["changes"] == [f"- clusters[demo].endpoints[{a.address}]"]
            assert {await router.served_by() for _ in range(3)} == {"b"}
            for stream in (one, two):
                assert (await stream.content.read()).endswith(b"data: [DONE]\n\n")
        path.write_text(text)
        await router.ask("POST", "/reload", {})
        assert {await router.served_by() for _ in range(4)} == {"a", "b"}
        await until(lambda: idle(router))

    async def test_if_match_guards_against_a_race(self, world):
        router, *_ = world
        now = (await router.get("/server_info"))["generation"]
        status, answer = await router.ask("POST", "/reload", {}, **{"if-match": f'"{now + 1}"'})
        assert (status, answer["error"]["code"]) == (412, "generation_mismatch")
        status, answer = await router.ask("POST", "/reload", {}, **{"if-match": f'"{now}"'})
        assert (status, answer["generation"]) == (200, now + 1)
        status, answer = await router.ask("POST", "/reload", {}, **{"if-match": "*"})
        assert (status, answer["generation"]) == (200, now + 2)

    async def test_the_dump_has_a_tag(self, world):
        router, *_ = world
        async with router.session.get(f"{router.admin}/config_dump") as answer:
            tag = answer.headers["etag"]
        headers = {"if-none-match": tag}
        async with router.session.get(f"{router.admin}/config_dump", headers=headers) as answer:
            assert answer.status == 304

    async def test_validate_touches_nothing(self, world):
        router, _, _, _, text = world
        before = await router.get("/server_info")
        headers = {"content-type": "application/yaml"}
        url = f"{router.admin}/validate"
        async with router.session.post(url, data=text, headers=headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["endpoints"] == 2
        bad = text.replace("to: demo", "to: dem")
        async with router.session.post(url, data=bad, headers=headers) as answer:
            assert answer.status == 400
            error = (await answer.json())["error"]
        assert error["findings"][0]["suggestion"] == "demo" or "demo" in error["message"]
        assert (await router.get("/server_info"))["generation"] == before["generation"]


class TestRequests:
    async def test_a_request_is_listed_and_can_be_ended(self, world):
        router, a, b, *_ = world
        async with router.chat(5000, stream=True) as stream:
            await stream.content.readany()
            (request,) = (await router.get("/requests"))["requests"]
            assert request["state"] == "streaming"
            assert request["model"] == "emulated"
            assert request["age"] >= 0
            status, _ = await router.ask("DELETE", f"/requests/{request['id']}", {})
            assert status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.content.read()
        assert (await router.get("/requests"))["requests"] == []
        await until(lambda: a.requests.active + b.requests.active == 0)
        status, _ = await router.ask("DELETE", f"/requests/{request['id']}", {})
        assert status == 404

    @pytest.mark.parametrize("id_", ["0", "0-", "-1", "x-y", "9-1", "0-99999999999"])
    async def test_ids_that_are_none(self, world, id_):
        router, *_ = world
        status, answer = await router.ask("DELETE", f"/requests/{id_}", {})
        assert (status, answer["error"]["code"]) == (404, "request_not_found")


class TestReadiness:
    async def test_drain_fails_it_and_undrain_restores_it(self, world):
        router, *_ = world
        assert (await router.text("/readyz"))[0] == 200
        await router.ask("POST", "/drain", {})
        status, text = await router.text("/readyz?verbose")
        assert status == 503
        assert "[-] not draining" in text
        assert (await router.text("/livez")) == (200, "ok\n")

        async def data_plane(status: int) -> bool:
            async with router.session.get(f"{router.api}/health") as answer:
                return answer.status == status

        await until(lambda: data_plane(503))
        assert await router.served_by() in {"a", "b"}, "it still serves"
        await router.ask("POST", "/undrain", {})
        await until(lambda: data_plane(200))
        assert (await router.text("/readyz"))[0] == 200


class TestMetrics:
    async def test_the_page_is_the_catalogue(self, world):
        router, *_ = world
        async with router.chat(3, stream=True) as stream:
            await stream.content.read()
        await until(lambda: has_load(router, world[1].address))
        _, page = await router.text("/metrics")
        families = {family.name: family for family in text_string_to_metric_families(page)}
        assert set(families) == {m.full_name.removesuffix("_total") for m in CATALOGUE}
        for metric in CATALOGUE:
            family = families[metric.full_name.removesuffix("_total")]
            assert family.type == metric.kind
            assert family.documentation == metric.help
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(metric.labels), sample

    async def test_connections_are_counted_while_they_last(self, world):
        router, *_ = world
        host, _, port = router.api.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))

        async def connections(count: int) -> bool:
            return await router.metric("warmpath_connections") == count

        await until(lambda: connections(1))
        writer.close()
        await writer.wait_closed()
        await until(lambda: connections(0))


class TestAccess:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/reload"),
            ("GET", "/drain"),
            ("POST", "/clusters"),
            ("DELETE", "/config_dump"),
            ("PUT", "/clusters/demo/endpoints/x:1"),
        ],
    )
    async def test_wrong_methods_are_405_and_named(self, world, method, path):
        router, *_ = world
        status, answer = await router.ask(method, path)
        assert (status, answer["error"]["code"]) == (405, "method_not_allowed")

    async def test_a_form_of_another_site_cannot_change_anything(self, world):
        router, *_ = world
        for content_type in (
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data",
        ):
            headers = {"content-type": content_type}
            async with router.session.post(f"{router.admin}/drain", headers=headers) as answer:
                assert answer.status == 403
        assert not (await router.get("/server_info"))["draining"]
        headers = {"x-warmpath-admin": "1"}
        async with router.session.post(f"{router.admin}/undrain", headers=headers) as answer:
            assert answer.status == 200

    async def test_a_rebound_name_is_refused(self, world):
        router, *_ = world
        headers = {"host": "evil.example:9901"}
        async with router.session.get(f"{router.admin}/clusters", headers=headers) as answer:
            assert answer.status == 403

    async def test_the_page_is_served_with_its_policy(self, world):
        router, *_ = world
        async with router.session.get(f"{router.admin}/") as answer:
            assert answer.status == 200
            assert str(answer.url).endswith("/ui/")
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "<title>" in await answer.text()
        async with router.session.get(f"{router.admin}/ui/..%2f..%2fapp.py") as answer:
            assert answer.status == 404


class TestCommands:
    async def run(self, router, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "router.cli.main", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"WARMPATH_ADMIN": router.admin},
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def test_status_drain_ready_weight_reload(self, world):
        router, a, *_ = world
        name = f"demo/{a.address}"
        status, out, _ = await self.run(router, "drain", name, "--wait")
        assert (status, out.splitlines()[-1]) == (0, f"{name}: drained")
        status, out, _ = await self.run(router, "status")
        assert status == 0
        assert any(a.address in line and "drain" in line for line in out.splitlines())
        status, out, _ = await self.run(router, "ready", name)
        assert (status, out.strip()) == (0, f"{name}: ready, weight 1")
        assert (await self.run(router, "weight", name, "7"))[1].strip().endswith("weight 7")
        status, out, _ = await self.run(router, "status", "-o", "json")
        assert json.loads(out)["clusters"][0]["endpoints"][0]["weight"] == 7
        status, out, _ = await self.run(router, "top", "--count", "2", "--interval", "0.1")
        rows = [line.split()[1] for line in out.splitlines() if line.startswith("demo ")]
        assert (status, rows.count(a.address)) == (0, 2)
        status, out, _ = await self.run(router, "reload")
        assert status == 0
        assert "no changes" in out

    async def test_refusals_and_wrong_usage(self, world):
        router, _, _, path, _ = world
        status, _, err = await self.run(router, "drain", "demo/127.0.0.1:1")
        assert (status, "no endpoint" in err) == (1, True)
        assert (await self.run(router, "drain", "nonsense"))[0] == 2
        path.write_text("version: 2\n")
        status, _, err = await self.run(router, "reload")
        assert status == 1
        assert "warmpath.yaml" in err
        status, _, err = await self.run(router, "status", "--admin", "http://127.0.0.1:9")
        assert (status, "cannot reach" in err) == (3, True)


async def test_a_token_is_asked_for_and_never_shown(tmp_path: Path):
    (tmp_path / "token").write_text(SECRET)
    async with emulator("a") as a:
        text = configuration(a.address).replace(
            'admin: {address: "127.0.0.1:0"}',
            f'admin: {{address: "127.0.0.1:0", token: "file:{tmp_path / "token"}"}}\n'
            'metrics: {address: "127.0.0.1:0"}',
        )
        async with serving(tmp_path, text) as router:
            status, answer = await router.ask("GET", "/clusters")
            assert (status, answer["error"]["code"]) == (401, "unauthorized")
            wrong = {"authorization": f"Bearer {SECRET}x"}
            assert (await router.ask("GET", "/clusters", **wrong))[0] == 401
            right = {"authorization": f"Bearer {SECRET}"}
            status, dump = await router.ask("GET", "/config_dump", **right)
            assert status == 200
            assert SECRET not in json.dumps(dump)
            assert (await router.text("/livez"))[0] == 200

            await until(lambda: any(line.startswith("metrics: ") for line in router.log))
            url = next(ln for ln in router.log if ln.startswith("metrics: ")).removeprefix(
                "metrics: "
            )
            for path, expected in (("/metrics", 200), ("/readyz", 200), ("/clusters", 404)):
                async with router.session.get(url + path) as page:
                    assert page.status == expected
            worker = (await router.ask("GET", "/server_info", **right))[1]["workers"][0]["pid"]
            memory = (
                Path(f"/proc/{worker}/cmdline").read_bytes()
                + Path(f"/proc/{worker}/environ").read_bytes()
            )
            assert SECRET.encode() not in memory
            assert all(SECRET not in line for line in router.log)


async def idle(router) -> bool:
    return await router.in_flight() == 0


async def has_load(router, address: str) -> bool:
    load = (await router.endpoints())[address]["load"]
    return load is not None and load["fresh"]


async def served_only_by(router, name):
    return {await router.served_by() for _ in range(4)} == {name}


async def health(router, address: str, healthy: bool) -> bool:
    return (await router.endpoints())[address]["healthy"] is healthy


async def generation(router, number: int) -> bool:
    return (await router.get("/server_info"))["generation"] == number
