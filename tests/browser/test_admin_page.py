"""The admin page in a real Chromium, before a real router and two emulated engines.

Every test ends by asking the page for console errors and violations of its content security policy.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.browser.chrome import Page, browse
from tests.integration.stack import (
    Stack,
    configuration,
    free_port,
    process,
    running,
    until_ok,
)

pytestmark = [pytest.mark.tool, pytest.mark.asyncio(loop_scope="module")]

ENGINE = ("engine.cli", "emulate", "--served-model-name", "warmpath-demo", "--profile", "cpu-tiny")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(tmp_path_factory.mktemp("stack"), ENGINE) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def page(stack: Stack, tool: Callable[..., str]) -> AsyncIterator[Page]:
    async with browse(tool("chromium", "chromium-browser", "google-chrome")) as page:
        await page.appear(width=1400, height=1000, scheme="light")
        await page.open(f"{stack.admin}/")
        await page.until("document.querySelectorAll('tr[data-endpoint]').length === 2")
        yield page
        assert page.troubles == []


def row(stack: Stack, number: int) -> str:
    return f"document.querySelector('tr[data-endpoint=\"demo/{stack.engines[number]}\"]')"


async def say(page: Page, text: str) -> None:
    await page.until("document.getElementById('model').value === 'warmpath-demo'")
    await page.evaluate(
        f"document.getElementById('text').value = {text!r};"
        "document.getElementById('say').requestSubmit()"
    )


async def answered(page: Page, turns: int) -> str:
    """Waits for that many answers with their facts; the facts of the last."""
    facts = "[...document.querySelectorAll('.turn.assistant small')].filter(e => e.textContent)"
    await page.until(f"{facts}.length === {turns}")
    return str(await page.evaluate(f"{facts}.at(-1).textContent"))


async def test_six_questions_in_order(page: Page) -> None:
    questions = await page.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert questions == [
        "What is exposed?",
        "Who gets it?",
        "By which rule?",
        "Are the servers healthy?",
        "Are the workers in sync?",
        "What happened?",
        "Try it",
    ]
    text = await page.evaluate("document.body.innerText")
    for answer in ("model warmpath-demo", "2 of 2 usable", "prefix_hash", "All 2 pass", "serving"):
        assert answer in text


async def test_page_is_as_locked_down_as_it_says(page: Page, stack: Stack) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{stack.admin}/ui/") as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    refused = await page.evaluate(
        "fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'refused')"
    )
    assert refused == "refused"
    # The violation shows that the policy is in force; it is not a trouble of the page.
    await page.until("true")
    assert any("Content Security Policy" in trouble for trouble in page.troubles)
    page.troubles.clear()


async def test_chat_answers_and_stays_on_its_endpoint(page: Page, stack: Stack) -> None:
    await say(page, "What is a load balancer? " * 20)
    first = await answered(page, 1)
    assert "least loaded" in first
    await say(page, "And why is that?")
    second = await answered(page, 2)
    assert "prefix hit" in second
    assert [e for e in stack.engines if e in first] == [e for e in stack.engines if e in second]
    assert "cached 0" in first
    assert "cached 0" not in second


async def test_new_conversation_forgets(page: Page) -> None:
    await say(page, "Remember this.")
    await answered(page, 1)
    await page.evaluate("document.getElementById('fresh').click()")
    await page.until("document.querySelectorAll('.turn').length === 0")
    await say(page, "What was it?")
    assert "new session" in await answered(page, 1)


async def test_drain_and_ready_buttons(page: Page, stack: Stack) -> None:
    def button(word: str) -> str:
        return (
            f"[...{row(stack, 0)}.querySelectorAll('button')].find(b => b.innerText === '{word}')"
        )

    await page.evaluate(f"{button('drain')}.click()")
    await page.until(f"{row(stack, 0)}.innerText.includes('drain')")
    await page.until(f"{button('drain')}.disabled && !{button('ready')}.disabled")
    told = "document.querySelector('tr[data-kind=\"override\"]')?.innerText"
    await page.until(f"{told}?.includes('demo/{stack.engines[0]}, state drain')")
    states = {e["address"]: e["state"] for e in await stack.endpoints()}
    assert states == {stack.engines[0]: "drain", stack.engines[1]: "ready"}
    await page.until("document.body.innerText.includes('1 of 2 usable')")

    await say(page, "Who answers now?")
    assert stack.engines[1] in await answered(page, 1)

    await page.evaluate(f"{button('ready')}.click()")
    await page.until("document.body.innerText.includes('2 of 2 usable')")


async def test_requests_in_flight_are_shown_and_can_be_ended(page: Page, stack: Stack) -> None:
    body = {
        "model": "warmpath-demo",
        "messages": [{"role": "user", "content": "Tell me a very long story."}],
        "max_tokens": 20_000,
        "stream": True,
        "ignore_eos": True,
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200
        await page.until("document.querySelectorAll('#requests tr').length === 1")
        assert "streaming" in await page.evaluate("document.querySelector('#requests').innerText")
        await page.evaluate("document.querySelector('#requests button').click()")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    await page.until("document.querySelectorAll('#requests tr').length === 0")
    await page.until("!document.getElementById('no-requests').hidden")


async def test_an_endpoint_that_dies_turns_unhealthy(page: Page, stack: Stack) -> None:
    """Last: it ends one of the engines."""
    stack.children[0].kill()
    await page.until(f"{row(stack, 0)}.innerText.includes('unhealthy')")
    await page.until(
        "document.getElementById('healthy-lead').innerText.includes('1 endpoint failing')"
    )
    await say(page, "Is anybody there?")
    assert stack.engines[1] in await answered(page, 1)


async def test_a_token_is_asked_for_once(
    stack: Stack, tool: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another router before the engine that is left, with a token and a rate limit."""
    port, admin = free_port(), free_port()
    config = tmp_path / "router.yaml"
    other = Stack(port, admin, stack.engines)
    plain = f"admin: {{address: 127.0.0.1:{admin}}}"
    limit = "{max_tokens: 20, tokens_per_fill: 10, fill_interval: 60s, per: user}"
    route = f"  - {{name: limited, match: {{model: x}}, to: demo, limits: [{limit}]}}"
    text = configuration(other, stack.engines, route)
    assert plain in text
    config.write_text(text.replace(plain, plain[:-1] + ', token: "${TOKEN}"}'))
    log = tmp_path / "router.log"
    monkeypatch.setenv("TOKEN", "sesame")
    with process("router.cli.main", "serve", "-c", str(config), log=log):
        await until_ok(f"{other.admin}/readyz", log)
        async with browse(tool("chromium", "chromium-browser", "google-chrome")) as page:
            page.reply = "sesame"
            await page.open(f"{other.admin}/")
            await page.until("document.querySelectorAll('tr[data-endpoint]').length === 2")
            assert "10 a minute, 20 at once, for each user" in await page.evaluate(
                "document.getElementById('routes').innerText"
            )
            await say(page, "Who is there?")
            await answered(page, 1)
            assert len(page.prompts) == 1
            assert all("401" in trouble for trouble in page.troubles)


async def test_screenshots(page: Page, tmp_path: Path) -> None:
    """The page draws something different in the dark."""
    await page.screenshot(tmp_path / "light.png")
    await page.appear(width=1400, height=1000, scheme="dark")
    await asyncio.sleep(0)
    await page.screenshot(tmp_path / "dark.png")
    background = "getComputedStyle(document.body).backgroundColor"
    assert await page.evaluate(background) == "rgb(22, 17, 14)"
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()
