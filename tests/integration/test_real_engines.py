"""The openai SDK through the router to two real CPU engines with the bundled model."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.integration.stack import Stack, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
MODEL = "warmpath-demo"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    command = ("engine.cli", "serve", "--served-model-name", MODEL)
    async with running(folder, command) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


SYSTEM = "You are the assistant of a small demo. " * 12


def conversation(name: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Hello, my name is {name}."},
    ]


async def turn(client: openai.AsyncOpenAI, messages: list[dict[str, Any]]) -> tuple[str, str, int]:
    """One turn, its answer appended; returns the endpoint, the reason and the cached tokens."""
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, max_tokens=24, temperature=0
    )
    answer = raw.parse()
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    cached = answer.usage.prompt_tokens_details.cached_tokens or 0
    return raw.headers["x-warmpath-endpoint"], raw.headers["x-warmpath-reason"], cached


async def test_later_turns_land_where_the_prefix_is(client: openai.AsyncOpenAI) -> None:
    for name in ("Ann", "Bob", "Cleo"):
        messages = conversation(name)
        home, reason, _ = await turn(client, messages)
        assert reason == "new session, least loaded"
        for question in ("What is the capital of France?", "What is a KV cache?"):
            messages.append({"role": "user", "content": question})
            endpoint, reason, cached = await turn(client, messages)
            assert (endpoint, reason) == (home, "prefix hit")
            assert cached > 0


async def test_a_new_conversation_goes_to_the_less_loaded_replica(
    stack: Stack, client: openai.AsyncOpenAI
) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=conversation("Dora"),  # type: ignore[arg-type]
        max_tokens=400,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    busy = stream.response.headers["x-warmpath-endpoint"]
    endpoint, _, _ = await turn(client, conversation("Emil"))
    assert endpoint != busy
    await stream.close()
    await stack.quiet()


async def test_a_stream_arrives_in_pieces_and_equals_the_whole(client: openai.AsyncOpenAI) -> None:
    ask: Any = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is continuous batching?"}],
        "max_tokens": 60,
        "temperature": 0,
    }
    whole = await client.chat.completions.create(**ask)
    pieces, usage = [], None
    async for chunk in await client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        pieces += [c.delta.content for c in chunk.choices if c.delta.content]
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[union-attr]


async def test_completions_models_and_tokenize(stack: Stack, client: openai.AsyncOpenAI) -> None:
    done = await client.completions.create(model=MODEL, prompt=["Hello", "Hi"], max_tokens=4)
    assert [choice.index for choice in done.choices] == [0, 1]
    models = await stack.get(f"{stack.url}/v1/models")
    assert [model["id"] for model in models["data"]] == [MODEL]
    assert models["data"][0]["max_model_len"] > 0


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model"),
        ({"max_tokens": -1}, openai.BadRequestError, "max_tokens"),
        ({"top_p": 1.5}, openai.BadRequestError, "top_p"),
    ],
)
async def test_errors_have_openais_form(
    client: openai.AsyncOpenAI, fields: dict[str, Any], error: type[Exception], param: str
) -> None:
    ask: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]} | fields
    with pytest.raises(error) as caught:
        await client.chat.completions.create(**ask)
    assert caught.value.param == param  # type: ignore[attr-defined]


async def engine_running(stack: Stack) -> float:
    total = 0.0
    for address in stack.engines:
        for line in (await stack.text(f"http://{address}/metrics")).splitlines():
            if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{")):
                total += float(line.rsplit(" ", 1)[1])
    return total


@pytest.mark.parametrize("wait_for_first_chunk", [True, False], ids=["mid-stream", "before head"])
async def test_a_client_that_leaves_stops_the_engine(
    stack: Stack, client: openai.AsyncOpenAI, wait_for_first_chunk: bool
) -> None:
    ask: Any = {
        "model": MODEL,
        "messages": conversation("Gus"),
        "max_tokens": 1500,
        "extra_body": {"ignore_eos": True},
    }
    if wait_for_first_chunk:
        stream = await client.chat.completions.create(**ask, stream=True)
        await anext(aiter(stream))
        await stream.close()
    else:
        task = asyncio.create_task(client.chat.completions.create(**ask))
        while not any(await stack.in_flight()):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    left = time.monotonic()
    while await engine_running(stack):
        assert time.monotonic() - left < 2
        await asyncio.sleep(0.01)
    await stack.quiet()


async def test_a_drained_endpoint_takes_nothing_new(
    stack: Stack, client: openai.AsyncOpenAI
) -> None:
    import aiohttp

    messages = conversation("Hans")
    home, _, _ = await turn(client, messages)
    url = f"{stack.admin}/clusters/demo/endpoints/{home}"
    async with aiohttp.ClientSession() as session:
        async with session.patch(url, json={"state": "drain"}) as answer:
            assert answer.status == 200
        messages.append({"role": "user", "content": "Hi again"})
        endpoint, _, _ = await turn(client, messages)
        assert endpoint != home
        async with session.patch(url, json={"state": "ready"}) as answer:
            assert answer.status == 200


async def test_a_killed_replica_costs_no_request(stack: Stack, client: openai.AsyncOpenAI) -> None:
    """Last, since it leaves one replica: retries cover it until health checks notice."""
    stack.children[0].kill()
    stack.children[0].wait()
    for name in ("Ida", "Jan", "Kim", "Leo", "Mia", "Nils"):
        endpoint, _, _ = await turn(client, conversation(name))
        assert endpoint == stack.engines[1]
