"""Tenants' keys as clients meet them: through a whole router, with OpenAI's own client."""

import json
from pathlib import Path

import openai
import pytest

from tests.processes.router_process import RouterProcess, configuration, emulator, serving, until

TENANTS = """
tenants:
  - {{name: acme, keys: ["file:{folder}/acme"], models: [emulated], priority: high}}
  - {{name: narrow, keys: ["file:{folder}/narrow"], models: ["other-*"]}}
"""


async def chat(router: RouterProcess, key: str | None) -> str:
    client = openai.AsyncOpenAI(
        base_url=f"{router.api}/v1", api_key=key or "", max_retries=0, timeout=20
    )
    async with client:
        answer = await client.chat.completions.create(
            model="emulated", messages=[{"role": "user", "content": "hello"}], max_tokens=2
        )
        return str(answer.id)


async def test_openais_client_with_good_wrong_and_narrow_keys(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("sk-acme-1\n")
    (tmp_path / "narrow").write_text("sk-narrow\n")
    async with emulator("a") as engine:
        text = configuration(engine.address, extra=TENANTS.format(folder=tmp_path))
        async with serving(tmp_path, text) as router:
            assert await chat(router, "sk-acme-1")
            with pytest.raises(openai.AuthenticationError) as wrong:
                await chat(router, "sk-guess")
            assert wrong.value.code == "invalid_api_key"
            with pytest.raises(openai.PermissionDeniedError, match="`emulated`"):
                await chat(router, "sk-narrow")
            async with router.session.get(f"{router.api}/v1/models") as answer:
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            async with router.session.get(f"{router.api}/health") as answer:
                assert answer.status == 200

            # A second key, then the first one gone: each by a reload, without a restart.
            (tmp_path / "acme").write_text("sk-acme-2\n")
            assert (await router.ask("POST", "/reload", {}))[0] == 200
            assert await chat(router, "sk-acme-2")
            with pytest.raises(openai.AuthenticationError):
                await chat(router, "sk-acme-1")

            await until(lambda: denied(router, "unknown_key", 2))
            sample = 'warmpath_tenant_requests_total{code="200",tenant="acme"}'
            await until(lambda: counted(router, sample, 2))
            assert "sk-" not in json.dumps(await router.get("/config_dump"))
            await until(lambda: sum('"status":401' in line for line in router.lines) == 3)
        assert not any("sk-" in line for line in router.log + router.lines)
        told = [json.loads(line) for line in router.lines]
        refused = [(r["tenant"], r["flag"], r["reason"]) for r in told if r["status"] == 401]
        assert refused == [
            (None, "UAEX", "unknown_key"),
            (None, "UAEX", "missing"),
            (None, "UAEX", "unknown_key"),
        ]
        assert {r["tenant"] for r in told if r["status"] == 200} == {"acme"}


async def denied(router: RouterProcess, reason: str, times: int) -> bool:
    sample = f'warmpath_denied_total{{listener="api",reason="{reason}"}}'
    return await counted(router, sample, times)


async def counted(router: RouterProcess, sample: str, times: int) -> bool:
    return await router.metric(sample) == times
