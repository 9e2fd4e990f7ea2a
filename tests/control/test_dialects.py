"""Metrics pages as the engines write them, and what is read from them."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from router.config.build import build
from router.config.engines import ENGINES
from router.config.findings import ConfigError
from router.config.load import loads
from router.control.dialects import BY_NAME
from router.control.dialects.base import DialectError
from router.control.engine_client import EngineClient
from router.control.probes import Prober
from router.control.roster import Roster, Standing
from router.control.scrape import Scraper
from router.core.load import Adapters, LoadReport
from router.core.snapshot import Snapshot

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m} 9"} 4.0 1700000000000
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="deferred"} 55.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
"""
VLLM_OF_2024 = b"""vllm:num_requests_running 2
vllm:num_requests_waiting 0
vllm:gpu_cache_usage_perc{model_name="m"} 0.125"""

CACHE = b"""# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="27000"} 1.0
vllm:cache_config_info{block_size="32",cache_dtype="a,b}",engine="1",num_gpu_blocks="100"} 1.0
vllm:cache_config_info{block_size="32",cache_dtype="a,b}",engine="1",num_gpu_blocks="100"} 1.0
"""
ADAPTERS = b"""
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="c"} 1.8e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a",waiting_lora_adapters=""} 1.75e+09
"""

SGLANG = b"""# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 162.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 2826.0
# HELP sglang:num_grammar_queue_reqs The number of requests in the grammar waiting queue.
sglang:num_grammar_queue_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 9.0
# HELP sglang:token_usage The token usage.
# TYPE sglang:token_usage gauge
sglang:token_usage{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 0.28
sglang:max_total_num_tokens{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 570979.0
sglang:num_used_tokens{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 123859.0
"""


def ranks(name: str, *rows: tuple[str, float], priority: str | None = None) -> bytes:
    """Samples of SGLang by data and tensor parallel rank."""
    more = "" if priority is None else f',priority="{priority}"'
    return "".join(
        f'sglang:{name}{{dp_rank="{rank[0]}",model_name="m",tp_rank="{rank[1]}"{more}}} {value}\n'
        for rank, value in rows
    ).encode()


SGLANG_IN_PARALLEL = (
    ranks("num_running_reqs", ("00", 4), ("01", 4), ("10", 1), ("11", 1), priority="")
    + ranks("num_running_reqs", ("00", 3), ("01", 3), priority="5")
    + ranks("num_running_reqs", ("00", 1), ("01", 1), priority="0")
    + ranks("num_queue_reqs", ("00", 2), ("10", 0), priority="")
    + ranks("token_usage", ("00", 0.5), ("01", 0.5), ("10", 0.1))
    + ranks("max_total_num_tokens", ("00", 60000), ("01", 60000), ("10", 60000))
)

TGI = b"""# TYPE tgi_request_count counter
tgi_request_count 51
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 8
# TYPE tgi_batch_current_max_tokens gauge
tgi_batch_current_max_tokens 2048
# TYPE tgi_queue_size gauge
tgi_queue_size 7
# TYPE tgi_batch_next_size histogram
tgi_batch_next_size_bucket{le="1"} 3
"""

LLAMACPP = b"""# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 900
# HELP llamacpp:n_busy_slots_per_decode Average number of busy slots per llama_decode() call
# TYPE llamacpp:n_busy_slots_per_decode counter
llamacpp:n_busy_slots_per_decode 3.87
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 4
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 46
"""
LLAMACPP_OF_2024 = (
    LLAMACPP
    + b"""# HELP llamacpp:kv_cache_usage_ratio KV-cache usage. 1 means 100 percent usage.
# TYPE llamacpp:kv_cache_usage_ratio gauge
llamacpp:kv_cache_usage_ratio 0.375
"""
)

PAGES: dict[str, tuple[str, bytes, LoadReport]] = {
    "two ranks": ("vllm", VLLM, LoadReport(5.0, 7, 1, 0.5)),
    "older names": ("vllm", VLLM_OF_2024, LoadReport(5.0, 2, 0, 0.125)),
    "no number": ("vllm", VLLM_OF_2024.replace(b"0.125", b"NaN"), LoadReport(5.0, 2, 0)),
    "more than full": ("vllm", VLLM_OF_2024.replace(b"0.125", b"1.7"), LoadReport(5.0, 2, 0, 1.0)),
    "both generations": ("vllm", VLLM + VLLM_OF_2024, LoadReport(5.0, 9, 1, 0.5)),
    "two caches": ("vllm", VLLM + CACHE, LoadReport(5.0, 7, 1, 0.5, capacity=16 * 27000 + 3200)),
    "caches not measured yet": (
        "vllm",
        VLLM + CACHE.replace(b'"100"', b'"None"'),
        LoadReport(5.0, 7, 1, 0.5),
    ),
    "a cache beyond reason": (
        "vllm",
        VLLM + CACHE.replace(b'"100"', b'"' + b"9" * 5000 + b'"'),
        LoadReport(5.0, 7, 1, 0.5),
    ),
    "the latest adapters": (
        "vllm",
        VLLM_OF_2024 + ADAPTERS,
        LoadReport(
            5.0,
            2,
            0,
            0.125,
            adapters=Adapters(frozenset({"a", "b"}), frozenset({"c"}), 4),
        ),
    ),
    "one rank": ("sglang", SGLANG, LoadReport(5.0, 162, 2826, 0.28, capacity=570979)),
    "ranks and priorities": (
        "sglang",
        SGLANG_IN_PARALLEL,
        LoadReport(5.0, 5, 2, 0.3, capacity=120000),
    ),
    "no cache": (
        "sglang",
        b"sglang:num_running_reqs 1\nsglang:num_queue_reqs 0\n",
        LoadReport(5.0, 1, 0),
    ),
    "tgi": ("tgi", TGI, LoadReport(5.0, 8, 7)),
    "before the first batch": ("tgi", b"tgi_request_count 0\n", LoadReport(5.0, 0, 0)),
    "llamacpp": ("llamacpp", LLAMACPP, LoadReport(5.0, 4, 46)),
    "with its cache": ("llamacpp", LLAMACPP_OF_2024, LoadReport(5.0, 4, 46, 0.375)),
}


@pytest.mark.parametrize("case", PAGES)
def test_a_page(case: str) -> None:
    engine, page, expected = PAGES[case]
    found = BY_NAME[engine].load(page, 5.0)
    assert found == expected


@pytest.mark.parametrize(
    ("engine", "page", "missing"),
    [
        ("vllm", b"", "vllm:num_requests_running"),
        ("vllm", b"# vllm:num_requests_running 5\n", "vllm:num_requests_running"),
        ("vllm", b"xvllm:num_requests_running 5\n", "vllm:num_requests_running"),
        ("vllm", b"vllm:num_requests_running 5\nvllm:num_requests_waiting oops\n", "waiting"),
        ("sglang", VLLM, "sglang:num_running_reqs.*--enable-metrics"),
        ("sglang", SGLANG.replace(b"num_queue", b"no_queue"), "sglang:num_queue_reqs"),
        ("tgi", VLLM, "tgi_batch_current_size"),
        ("llamacpp", b"", "llamacpp:requests_processing.*--metrics"),
        ("llamacpp", b"llamacpp:requests_processing 4\n", "llamacpp:requests_deferred"),
    ],
)
def test_what_is_missing_is_named(engine: str, page: bytes, missing: str) -> None:
    with pytest.raises(DialectError, match=missing):
        BY_NAME[engine].load(page, 0.0)


def test_what_an_engine_is_said_to_tell_its_page_tells() -> None:
    told: dict[str, set[str]] = {name: set() for name in ENGINES}
    for engine, _, report in PAGES.values():
        fields = msgspec.structs.asdict(report)
        told[engine] |= {n for n, value in fields.items() if value is not None} - {"at", "told"}
    assert told == {name: set(engine.tells) for name, engine in ENGINES.items()}


def test_every_engine_with_a_page_has_a_dialect_and_only_those() -> None:
    assert set(BY_NAME) == {name for name, engine in ENGINES.items() if engine.metrics is not None}


# --- the pages where the engines have them ----------------------------------------------------


def snapshot_of(address: str, engine: str, more: str = "") -> Snapshot:
    text = f"""
version: 1
clusters:
  - {{name: c, endpoints: ["{address}"], engine: {engine}{more}}}
routes: [{{name: all, to: c}}]
"""
    return build(loads(text, "test"), 1)


class Engine:
    """Answers each path that it knows with 200 and its page, others with 404."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        self._pages = pages
        self.asked: list[str] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        page = self._pages.get(path)
        status = b"404 Not Found" if page is None else b"200 OK"
        head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status, len(page or b""))
        writer.write(head + (page or b""))
        writer.close()


HEALTHY = {"/health": b"{}", "/metrics": b""}
OLLAMA = {"/api/version": b'{"version":"0.12.3"}', "/": b"Ollama is running"}


@pytest.mark.parametrize(
    ("engine", "pages", "load"),
    [
        ("sglang", HEALTHY | {"/metrics": SGLANG}, (162, 2826, 0.28)),
        ("tgi", HEALTHY | {"/metrics": TGI}, (8, 7, None)),
        ("llamacpp", HEALTHY | {"/metrics": LLAMACPP}, (4, 46, None)),
        ("ollama", OLLAMA, None),
    ],
)
async def test_health_and_load_are_looked_for_where_the_engine_has_them(
    engine: str, pages: dict[str, bytes], load: Any
) -> None:
    serving = Engine(pages)
    async with serving as address:
        standing = await _watched(snapshot_of(address, engine))
    assert standing.healthy, standing.probe_error
    assert set(serving.asked) <= set(pages), "nothing is asked for that it does not have"
    if load is None:
        assert standing.load is None
        assert standing.scrape_error is None
    else:
        assert standing.load is not None
        assert (standing.load.running, standing.load.waiting, standing.load.kv_usage) == load


async def _watched(snapshot: Snapshot) -> Standing:
    """The one endpoint, once it was probed and, if it has such a page, scraped."""
    roster = Roster()
    roster.reconcile(snapshot.endpoints())
    [standing] = roster.standings.values()
    async with EngineClient() as client, asyncio.timeout(10):
        parts = Prober(client, roster, random.Random(1)), Scraper(client, roster, random.Random(1))
        for part in parts:
            part.reconcile(snapshot)
        scraped = snapshot.clusters["c"].scrape is not None
        while standing.healthy is None or (scraped and standing.load is None):
            await asyncio.sleep(0.01)
        for part in parts:
            await part.close()
    return standing


def test_paths_that_are_given_hold() -> None:
    more = ", health: {active: {path: /ready}}, scrape: {path: /exporter}"
    cluster = snapshot_of("e:1", "sglang", more).clusters["c"]
    assert cluster.health is not None and cluster.health.path == "/ready"
    assert cluster.scrape is not None and cluster.scrape.path == "/exporter"


def test_a_page_for_an_engine_that_has_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="'ollama' publishes nothing"):
        snapshot_of("e:1", "ollama", ", scrape: {path: /metrics}")


def test_an_engine_that_is_not_known_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'llamacpp'"):
        snapshot_of("e:1", "llama-cpp")
