"""``warmpath explain`` and ``POST /explain``, from a file and of a running router."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli.main import main
from tests.processes.router_process import RouterProcess, configuration, emulator, serving, until

CANARY = Path(__file__).parents[2] / "policies" / "canary.yaml"
TENANTS = CANARY.with_name("tenants.yaml")


def explain(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments], input=stdin)


def plain(*arguments: str, stdin: bytes | None = None) -> dict[str, Any]:
    result = explain("-c", str(CANARY), "-o", "json", *arguments, stdin=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.output)  # type: ignore[no-any-return]


# --- from a file ------------------------------------------------------------------------------


def test_the_text() -> None:
    result = explain("-c", str(CANARY), "--model", "llama-8b", "--header", "x-model-version: v2")
    assert result.exit_code == 0, result.output
    for part in (
        "every endpoint taken as ready, healthy and idle",
        "route      preview: matches",
        "1 later not looked at",
        "to         llama-8b[version=v2] weight 1 (100.0%)",
        "admission  admitted: 0 in flight of 1024",
        "limit      cluster llama-8b#1: 100.0 of 100 left",
        "not in the subset: lacks version=v2",
        "pick       llama-8b/10.0.0.3:8000",
        "retries    2 on connect-failure, reset",
        "timeouts   connect 5s",
        "if all fail 503 upstream_connect_failure (UF), Retry-After 1",
    ):
        assert part in result.output


def test_an_unknown_model() -> None:
    result = explain("-c", str(CANARY), "--model", "nope")
    assert result.exit_code == 1
    assert "client gets 404 model_not_found (NR): The model `nope` does not exist." in result.output
    assert "route      canary: model: wants 'llama-8b', has 'nope'" in result.output


def test_a_body_from_standard_input() -> None:
    body = b'{"model":"llama-8b","user":"u","messages":[{"role":"user","content":"hi"}]}'
    told = plain("--body", "-", stdin=body)
    assert told["request"]["body_bytes"] == len(body)
    assert told["request"]["user"] == "u"
    assert (
        told["request"]["prefix_hash"]
        == plain("--model", "llama-8b", "--prompt", "hi")["request"]["prefix_hash"]
    )
    refused = plain("--body", "-", stdin=b"{oops")
    assert (refused["error"]["status"], refused["request"]) == (400, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", str(CANARY), "--live", "http://127.0.0.1:1"],
        ["-c", str(CANARY), "--header", "nothing"],
        ["-c", "gone.yaml"],
        ["-c", str(CANARY), "--path", "/v1/models", "--method", "GET"],
        ["-c", str(CANARY), "--model", "a", "--body", str(CANARY)],
        ["-c", str(CANARY), "--model", "a", "--client", "10.0.0.256"],
        ["-c", str(TENANTS), "--model", "a", "--tenant", "serach"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert explain(*arguments).exit_code == 2


def test_a_router_that_is_not_there() -> None:
    assert explain("--live", "http://127.0.0.1:1", "--model", "a").exit_code == 3


# --- of a running router ------------------------------------------------------------------------


async def command(router: RouterProcess, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", "explain", "--live", router.admin, *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_the_running_router(tmp_path: Path) -> None:
    async with emulator("one") as one, emulator("two") as two:
        text = configuration(one.address, two.address)
        limits = "limits: [{max_tokens: 5, tokens_per_fill: 1, fill_interval: 1h}]"
        text = text.replace("{connect: 2s}}", "{connect: 2s}, " + limits + "}")
        text = text.replace("{type: round_robin}", "{type: prefix_hash}")
        async with serving(tmp_path, text) as router:
            await _tell(router)


async def _tell(router: RouterProcess) -> None:
    status, told = await router.ask("POST", "/explain", {"model": "emulated", "client": "me"})
    assert (status, told["error"]["param"]) == (400, "client")
    question = {"body": {"model": "emulated", "messages": [{"role": "user", "content": "hello"}]}}
    serving_name = await router.served_by()

    async def ask(**fields: Any) -> dict[str, Any]:
        status, told = await router.ask("POST", "/explain", question | fields)
        assert status == 200, told
        return told  # type: ignore[no-any-return]

    async def reported() -> bool:
        return all(c["load"] is not None for c in (await ask())["candidates"])

    await until(reported)
    for _ in range(3):  # asking takes no token and moves nothing
        told = await ask(seed=7)
        assert told["admission"]["limits"][0]["remaining"] == pytest.approx(4, abs=0.1)
    # Where the conversation went is on the board, and the explanation agrees with what follows.
    same = json.dumps(
        {
            "model": "emulated",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 3,
            "stream": False,
        }
    )
    told = await ask(body=same)
    assert told["attempts"][0]["reason"] == "prefix hit"
    assert await router.served_by() == serving_name
    # An operator's override is seen at once.
    picked = told["attempts"][0]["endpoint"]
    cluster, _, address = picked.partition("/")
    await router.ask("PATCH", f"/clusters/{cluster}/endpoints/{address}", {"state": "drain"})
    told = await ask(body=same)
    assert {c["endpoint"]: c["removed"] for c in told["candidates"]}[picked] == "drain"
    assert told["attempts"][0]["endpoint"] != picked
    code, text = await command(router, "--model", "emulated")
    assert code == 0 and "of the running router" in text
    for wrong, param in (({"seed": "x"}, "seed"), ({"path": "no"}, "path")):
        status, value = await router.ask("POST", "/explain", wrong)
        assert (status, value["error"]["param"]) == (400, param)
    status, value = await router.ask("POST", "/explain", {"path": "/health", "method": "GET"})
    assert (status, value["error"]["code"]) == (400, "own_answer")
    assert await router.in_flight() == 0
