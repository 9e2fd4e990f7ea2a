"""Kubernetes discovery against an API server on loopback: lists, watches and their mishaps."""

import asyncio
import json
import shutil
import ssl
import subprocess
from pathlib import Path

import msgspec
import pytest

from router.config.discovery import KubernetesDiscovery
from router.config.locality import LocalitySpec, locality
from router.config.units import Interval
from router.control.discovery import kubernetes as module
from router.control.discovery.answer import Answer, DiscoveryFailed
from router.control.discovery.kubernetes import KubernetesSource
from tests.control.discovery.api_server import api_server, endpoint


@pytest.fixture
async def server():
    async with api_server() as server:
        yield server


@pytest.fixture
async def follow(server):
    sources: list[KubernetesSource] = []

    def make(**settings) -> "Follower":
        defaults = {"service": "engines", "namespace": "llm", "server": server.url}
        sources.append(KubernetesSource(KubernetesDiscovery(**(defaults | settings))))
        return Follower(sources[-1])

    yield make
    for source in sources:
        await source.close()


class Follower:
    """Asks a source as the discoverer does, and keeps what it said."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.failures: list[str] = []
        self.answer: Answer | None = None

    async def next(self) -> list[str]:
        self.answer = await self.source.next()
        return [str(spec.address) for spec in self.answer.endpoints]

    async def becomes(self, *wanted: str) -> None:
        """Ask on, also after failures, until these are the endpoints that take requests."""
        async with asyncio.timeout(10):
            while self.serving != list(wanted):
                try:
                    await self.next()
                except DiscoveryFailed as failure:
                    self.failures.append(str(failure))
                    await asyncio.sleep(0.005)

    @property
    def serving(self) -> list[str] | None:
        if self.answer is None:
            return None
        return [str(spec.address) for spec in self.answer.endpoints if not spec.drain]


class TestSlices:
    async def test_endpoints_bring_identity_and_topology(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        assert await follower.next() == ["10.0.0.1:8000"]
        (spec,) = follower.answer.endpoints
        assert (spec.uid, spec.drain) == ("u1", False)
        assert spec.labels == {"zone": "zone-a", "node": "node-1", "pod": "pod-u1"}
        assert spec.locality == LocalitySpec()

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({}, "serves"),
            ({"ready": None}, "serves"),
            ({"ready": False}, "is left out"),
            ({"ready": False, "serving": True, "terminating": True}, "drains"),
            ({"ready": False, "serving": False, "terminating": True}, "is left out"),
            ({"ready": False, "terminating": True}, "is left out"),
        ],
    )
    async def test_conditions(self, server, follow, conditions, expected):
        server.put("engines-a", endpoint("10.0.0.1", "u1", **conditions))
        follower = follow()
        await follower.next()
        found = [spec.drain for spec in follower.answer.endpoints]
        assert found == {"serves": [False], "drains": [True], "is left out": []}[expected]

    async def test_slices_are_merged_and_each_pod_counts_once(self, server, follow):
        ending = endpoint("10.0.0.1", "u1", ready=False, serving=True, terminating=True)
        server.put("engines-a", ending, endpoint("10.0.0.2", "u2"))
        server.put("engines-b", endpoint("10.0.0.1", "u1"), endpoint("10.0.0.3", "u3"))
        server.put("engines-6", endpoint("fd00::2", "u2"), endpoint("fd00::4", "u4"), family="IPv6")
        server.put("empty")
        follower = follow()
        assert await follower.next() == [
            *("10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000", "[fd00::4]:8000"),
        ]
        assert follower.serving == await_all(follower)

    async def test_an_address_that_passed_to_a_new_pod_is_the_new_pods(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "old"))
        follower = follow()
        await follower.becomes("10.0.0.1:8000")
        old = endpoint("10.0.0.1", "old", ready=False, serving=True, terminating=True)
        server.put("engines-a", old, endpoint("10.0.0.1", "new"))
        async with asyncio.timeout(10):
            while follower.answer.endpoints[0].uid != "new":
                await follower.next()
        assert [spec.uid for spec in follower.answer.endpoints] == ["new"]

    @pytest.mark.parametrize(
        ("port", "said"),
        [
            (None, None),
            ("http", None),
            (8000, None),
            ("grpc", "slice engines-a has no port 'grpc'; it has: http"),
            (9, "no port 9"),
        ],
    )
    async def test_ports_by_name_and_number(self, server, follow, port, said):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow(port=port)
        if said is None:
            assert await follower.next() == ["10.0.0.1:8000"]
        else:
            with pytest.raises(DiscoveryFailed, match=said):
                await follower.next()

    async def test_a_long_list_comes_in_pages(self, server, follow):
        server.page = 2
        for number in range(5):
            server.put(f"engines-{number}", endpoint(f"10.0.0.{number}", f"u{number}"))
        assert len(await follow().next()) == 5
        assert [query.get("continue") for query in server.requests] == [None, "2", "4"]


def await_all(follower: Follower) -> list[str]:
    return [str(spec.address) for spec in follower.answer.endpoints]


class TestWatch:
    async def test_a_rolling_restart(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.becomes("10.0.0.1:8000")
        server.put("engines-a", endpoint("10.0.0.1", "u1"), endpoint("10.0.0.2", "u2"))
        await follower.becomes("10.0.0.1:8000", "10.0.0.2:8000")
        ending = endpoint("10.0.0.1", "u1", ready=False, serving=True, terminating=True)
        server.put("engines-a", ending, endpoint("10.0.0.2", "u2"))
        await follower.becomes("10.0.0.2:8000")
        assert [spec.drain for spec in follower.answer.endpoints] == [True, False]
        server.put("engines-b", endpoint("10.0.0.3", "u3"))
        await follower.becomes("10.0.0.2:8000", "10.0.0.3:8000")
        server.delete("engines-a")
        await follower.becomes("10.0.0.3:8000")
        server.delete("engines-b")
        await follower.becomes()
        assert follower.failures == []
        assert ["watch" in query for query in server.requests] == [False, True]

    async def test_a_bookmark_moves_the_version_on(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.next()
        await follower.next()
        server.bookmark()
        version = server.version
        await follower.next()
        await server.cut()
        server.put("engines-a", endpoint("10.0.0.2", "u2"))
        await follower.becomes("10.0.0.2:8000")
        assert server.requests[-1]["resourceVersion"] == str(version)
        assert server.requests[-1]["allowWatchBookmarks"] == "true"

    async def test_a_watch_that_times_out_is_begun_anew_without_a_list(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow(watch_timeout=Interval(1.0))
        async with asyncio.timeout(10):
            while server.ended < 1:
                await follower.next()
        server.put("engines-a", endpoint("10.0.0.2", "u2"))
        await follower.becomes("10.0.0.2:8000")
        assert follower.failures == []
        assert ["watch" in query for query in server.requests] == [False, True, True]

    async def test_a_break_in_the_middle_of_a_line_loses_nothing(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.next()
        await follower.next()
        await server.watched()
        await server.cut(b'{"type": "MODIFIED", "object": {"metadata": {"name": "engi')
        server.put("engines-a", endpoint("10.0.0.2", "u2"))
        await follower.becomes("10.0.0.2:8000")
        assert ["watch" in query for query in server.requests] == [False, True, True]

    @pytest.mark.parametrize("while_watching", [True, False])
    async def test_a_version_that_is_gone_means_a_new_list(self, server, follow, while_watching):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        server.put("engines-b", endpoint("10.0.0.2", "u2"))
        follower = follow()
        await follower.next()
        await follower.next()
        if while_watching:
            await server.watched()
            server.error(410, "too old resource version")
        else:
            await server.cut()
        server.slices.pop("engines-b")  # nobody will be told
        server.version += 1
        if not while_watching:
            server.forget()
        await follower.becomes("10.0.0.1:8000")
        assert [q for q in server.requests if "watch" not in q][1:], "listed once more"

    async def test_versions_that_are_always_gone_are_no_busy_loop(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        server.oldest = 10**6
        follower = follow()
        await follower.next()
        await follower.next()
        with pytest.raises(DiscoveryFailed, match="410"):
            await follower.next()
        assert len(server.requests) == 4

    async def test_an_error_in_the_watch_is_told(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.next()
        await follower.next()
        server.error(500, "etcd is away")
        with pytest.raises(DiscoveryFailed, match="etcd is away"):
            await follower.next()

    async def test_nonsense_is_a_failure_and_means_a_new_list(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.next()
        await follower.next()
        server.events.append((server.version + 1, b'{"type": "ADDED", "object": 7}\n'))
        server.version += 1
        with pytest.raises(DiscoveryFailed, match="not an EndpointSlice"):
            await follower.next()
        server.events.clear()
        server.put("engines-a", endpoint("10.0.0.2", "u2"))
        await follower.becomes("10.0.0.2:8000")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that is its own authority."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = f"""openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2
        -subj /CN=kubernetes -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"""
    subprocess.run(command.split(), check=True, capture_output=True)
    return key, cert


class TestServer:
    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (401, "answered 401: as the test wants it; is the token right"),
            (403, "needs list and watch of endpointslices in namespace llm"),
            (404, "answered 404"),
            (429, "answered 429"),
            (500, "answered 500"),
            (503, "answered 503"),
        ],
    )
    async def test_refusals_say_what_to_do_and_pass(self, server, follow, status, said):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        server.status = status
        follower = follow()
        with pytest.raises(DiscoveryFailed, match=said):
            await follower.next()
        server.status = 0
        await follower.becomes("10.0.0.1:8000")

    async def test_a_refused_watch_keeps_the_list(self, server, follow):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.next()
        server.status = 500
        with pytest.raises(DiscoveryFailed):
            await follower.next()
        server.status = 0
        assert await follower.next() == ["10.0.0.1:8000"]
        assert len([query for query in server.requests if "watch" not in query]) == 1

    async def test_a_server_that_is_slow_or_away_is_a_failure(self, server, follow, monkeypatch):
        monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.1)
        server.delay = 5.0
        with pytest.raises(DiscoveryFailed, match="TimeoutError"):
            await follow().next()
        with pytest.raises(DiscoveryFailed, match="engines: "):
            await follow(server="http://127.0.0.1:1").next()

    async def test_a_silent_watch_is_given_up(self, server, follow, monkeypatch):
        monkeypatch.setattr(module, "GRACE", -0.9)
        follower = follow(watch_timeout=Interval(1.0))
        await follower.next()
        await follower.next()
        with pytest.raises(DiscoveryFailed, match=r"(?i)timeout"):
            await follower.next()

    async def test_the_account_in_the_pod_is_used_and_read_again(
        self, server, tmp_path, monkeypatch
    ):
        for name, text in (("token", "first\n"), ("namespace", "llm")):
            (tmp_path / name).write_text(text)
        server.token = "first"
        source = KubernetesSource(KubernetesDiscovery(service="engines"), tmp_path)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        assert source._server() == "https://127.0.0.1:443"
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
        assert source._server() == "https://[fd00::1]:443"
        with pytest.raises(DiscoveryFailed, match=r"ca\.crt"):
            await source.next()
        # The test's server speaks no TLS.
        monkeypatch.setattr(source, "_server", lambda: server.url)
        monkeypatch.setattr(source, "_tls", lambda: True)
        await source.next()
        server.token = "second"
        with pytest.raises(DiscoveryFailed, match="401"):
            await source.next()
        (tmp_path / "token").write_text("second")
        await source.next()
        await source.close()

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
    async def test_the_servers_certificate_is_checked(self, tmp_path):
        key, cert = certificate(tmp_path)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
        token = tmp_path / "token"
        token.write_text("secret\n")
        async with api_server(context) as server:
            server.token = "secret"
            server.put("engines-a", endpoint("10.0.0.1", "u1"))
            spec = KubernetesDiscovery(
                service="engines",
                namespace="llm",
                server=server.url,
                token_file=str(token),
                ca_file=str(cert),
            )
            trusting = KubernetesSource(spec)
            assert len((await trusting.next()).endpoints) == 1
            await trusting.close()
            stranger = KubernetesSource(msgspec.structs.replace(spec, ca_file=None))
            with pytest.raises(DiscoveryFailed, match=r"(?i)certificate verify failed"):
                await stranger.next()
            assert len(server.requests) == 1, "the token was not shown to it"

    async def test_outside_a_cluster_a_server_is_needed(self, monkeypatch, tmp_path):
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        (tmp_path / "ca.crt").write_text("")
        source = KubernetesSource(KubernetesDiscovery(service="engines"), tmp_path)
        monkeypatch.setattr(source, "_tls", lambda: True)
        for name in ("token", "namespace"):
            (tmp_path / name).write_text("x")
        with pytest.raises(DiscoveryFailed, match="not inside a Kubernetes cluster"):
            await source.next()
        await source.close()

    async def test_a_missing_token_is_named(self, server, tmp_path):
        spec = KubernetesDiscovery(
            service="engines", namespace="llm", server=server.url, token_file=f"{tmp_path}/none"
        )
        source = KubernetesSource(spec)
        with pytest.raises(DiscoveryFailed, match=r"cannot read .*/none"):
            await source.next()
        await source.close()

    async def test_an_endless_line_or_list_is_cut_off(self, server, follow, monkeypatch):
        server.put("engines-a", endpoint("10.0.0.1", "u1"))
        follower = follow()
        await follower.next()
        await follower.next()
        monkeypatch.setattr(module, "MAX_LINE", 1000)
        server.events.append((server.version + 1, json.dumps("x" * 5000).encode()))
        with pytest.raises(DiscoveryFailed, match="longer than 1000"):
            await follower.next()
        monkeypatch.setattr(module, "MAX_SLICES", 0)
        with pytest.raises(DiscoveryFailed, match="more than 0"):
            await follow().next()

    async def test_an_endless_answer_is_cut_off(self, server, follow, monkeypatch):
        server.put("engines-a", *(endpoint(f"10.0.0.{n}", f"u{n}") for n in range(50)))
        body = module._body
        monkeypatch.setattr(module, "_body", lambda response: body(response, 1000))
        with pytest.raises(DiscoveryFailed, match="longer than 1000 bytes"):
            await follow().next()


async def test_with_a_region_they_have_a_locality(server, follow):
    """The pod's zone, or the one zone whose clients Kubernetes means it for."""
    moved = endpoint("10.1.0.2", "u2") | {"hints": {"forZones": [{"name": "zone-b"}]}}
    shared = endpoint("10.1.0.3", "u3") | {
        "hints": {"forZones": [{"name": "zone-b"}, {"name": "zone-c"}]}
    }
    server.put("s1", endpoint("10.1.0.1", "u1"), moved, shared)
    source = follow(region="us-east1")
    await source.becomes("10.1.0.1:8000", "10.1.0.2:8000", "10.1.0.3:8000")
    places = [str(locality(spec.locality)) for spec in source.answer.endpoints]
    assert places == ["us-east1/zone-a", "us-east1/zone-b", "us-east1/zone-a"]
