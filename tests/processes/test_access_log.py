"""The access log of a whole router: its formats, its filter, and what is in none of its lines."""

import json

import pytest

from tests.processes.router_process import (
    configuration,
    emulator,
    launched,
    serving,
    until,
)

PROMPT = "the-quick-brown-secret-fox"


async def ask(router, prompt: str = PROMPT, status: int = 200, **more: object) -> str:
    body = {"model": "emulated", "messages": [{"role": "user", "content": prompt}], "max_tokens": 3}
    url = f"{router.api}/v1/chat/completions"
    headers = {"user-agent": "tester/1", "x-request-id": "r-1"}
    async with router.session.post(url, json=body | more, headers=headers) as answer:
        assert answer.status == status
        return await answer.text()


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ("envoy", '"POST /v1/chat/completions HTTP/1.1" 200 - '),
        (
            "{text: '%REQ(USER-AGENT):6% %RESPONSE_CODE% %UPSTREAM_CLUSTER% %RESP(X-NONE)%'}",
            "tester 200 demo -",
        ),
    ],
)
async def test_formats(tmp_path, format_, expected):
    async with emulator("a") as a:
        text = configuration(a.address, extra=f"access_log: {{format: {format_}}}\n")
        async with serving(tmp_path, text) as router:
            await ask(router)
            await until(lambda: router.lines)
            assert expected in router.lines[0]


async def test_only_what_went_wrong(tmp_path):
    async with emulator("a") as a:
        extra = "access_log: {sample: 0%, always: {status: 400}}\n"
        async with serving(tmp_path, configuration(a.address, extra=extra)) as router:
            await ask(router)
            await ask(router, status=404, model="no-such-model")
            await until(lambda: router.lines)
            [line] = router.lines
            assert json.loads(line)["status"] == 404


async def test_no_byte_of_a_body_is_in_any_log(tmp_path):
    """Neither in lines nor in what control and workers say, for whatever becomes of a request."""
    async with emulator("a") as a:
        async with serving(tmp_path, configuration(a.address)) as router:
            said = [
                await ask(router),
                await ask(router, stream=True),
                await ask(router, status=404, model="no-such-model"),
                await ask(router, status=400, max_tokens=-1),
            ]
            url = f"{router.api}/v1/chat/completions"
            broken = b'{"model": "emulated", "messages": [{"content": "' + PROMPT.encode()
            for body in (broken, broken + b"\xff\x00\n", PROMPT.encode()):
                async with router.session.post(url, data=body) as answer:
                    said.append(await answer.text())
            await a.__aexit__(None, None, None)
            await ask(router, status=503)
            await until(lambda: sum('"status":503' in line for line in router.lines) == 1)
            await router.get("/requests")
        logs = "\n".join(router.lines + router.log)
    assert len(router.lines) >= 5
    assert PROMPT not in logs and "quick-brown" not in logs
    answers = [word for text in said[:1] for word in json.loads(text)["choices"][0]["message"]
               ["content"].split() if len(word) > 8]  # fmt: skip
    assert not any(word in logs for word in answers)


async def test_a_format_that_cannot_be_told_is_refused(tmp_path):
    config = tmp_path / "warmpath.yaml"
    extra = "access_log: {format: {text: '%CONNECTION_ID%'}}\n"
    config.write_text(configuration("127.0.0.1:1", extra=extra))
    async with launched("-c", str(config)) as router:
        assert await router.ended() == 1
        assert any("unknown operator %CONNECTION_ID%" in line for line in router.log)


async def test_prompts_can_be_recognised_and_not_read(tmp_path, monkeypatch):
    """Names of a prompt's beginnings, the same ones after a restart with the same salt."""
    extra = "access_log: {prefix: salted, salt: '${SALT}'}\n"
    lines = []
    async with emulator("a") as a:
        for salt in ("sixteen letters!", "sixteen letters!", "sixteen letters?"):
            monkeypatch.setenv("SALT", salt)
            async with serving(tmp_path, configuration(a.address, extra=extra)) as router:
                await ask(router, PROMPT * 100)
                await ask(router, PROMPT * 50 + "other" * 200)
                await until(lambda: len(router.lines) == 2)
                assert salt not in str(await router.get("/config_dump"))
                lines.append([json.loads(line) for line in router.lines])
    assert PROMPT not in str(lines) and "sixteen" not in str(lines)
    (one, two), again, other = lines
    assert one["prompt_bytes"] == len(PROMPT) * 100 + len('{"role": "user", "content": ""}')
    assert len(one["prefix"]) > len(two["prefix"]) > 21
    assert one["prefix"][:20] == two["prefix"][:20]
    assert one["prefix"][:42] != two["prefix"][:42]
    assert [line["prefix"] for line in again] == [one["prefix"], two["prefix"]]
    assert other[0]["prefix"] != one["prefix"]
