"""The OpenAI SDK against a real server: every prompt form, streamed and whole."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.engine.server.serving import Running, serving

HELLO: list[Any] = [{"role": "user", "content": "hello world"}]


async def streamed_text(client: AsyncOpenAI, **body: Any) -> str:
    stream = await client.completions.create(stream=True, **body)
    return "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])


async def test_a_chat_answer_has_text_reason_and_usage(server: Running) -> None:
    answer = await server.client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=8, temperature=0
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.id.startswith("chatcmpl-")


async def test_a_streamed_chat_says_the_same_as_a_whole_one(server: Running) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 24, "temperature": 0}
    whole = await server.client.chat.completions.create(**body)
    stream = await server.client.chat.completions.create(
        **body, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "length"
    assert not any(reasons[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_comes_with_every_chunk_when_asked(server: Running) -> None:
    stream = await server.client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=6,
        temperature=0,
        stream=True,
        extra_body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    )
    counts = [c.usage.completion_tokens async for c in stream if c.usage]
    assert counts == sorted(counts)
    assert counts[-1] == 6


async def test_every_form_of_prompt(server: Running) -> None:
    ids = server.service.model.tokenizer.encode("hello world").ids
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 5, "temperature": 0}
    create = server.client.completions.create
    one = (await create(prompt="hello world", **body)).choices[0].text
    as_ids = await create(prompt=ids, **body)
    assert as_ids.choices[0].text == one
    assert as_ids.usage is not None
    assert as_ids.usage.prompt_tokens == len(ids)
    several = await create(prompt=["hello world", "the router", "hello world"], **body)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.choices[0].text == several.choices[2].text == one
    both = await create(prompt=[ids, [5, 6, 7]], **body)
    assert both.choices[0].text == one
    assert both.usage is not None
    assert both.usage.prompt_tokens == len(ids) + 3


async def test_prompts_and_choices_stream_side_by_side(server: Running) -> None:
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 5, "seed": 3, "n": 2}
    whole = await server.client.completions.create(prompt=["hello", "the router"], **body)
    stream = await server.client.completions.create(
        prompt=["hello", "the router"], stream=True, **body
    )
    texts = dict.fromkeys(range(4), "")
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert list(texts.values()) == [choice.text for choice in whole.choices]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 20


async def test_choices_differ_and_a_seed_repeats_them(server: Running) -> None:
    async def texts(seed: int) -> list[str]:
        answer = await server.client.completions.create(
            model="tiny", prompt="hello", max_tokens=12, n=3, seed=seed
        )
        return [choice.text for choice in answer.choices]

    first = await texts(7)
    assert len(set(first)) == 3
    assert await texts(7) == first
    assert await texts(8) != first
    # vLLM's way to ask for a seed of the server's own.
    assert await texts(-1) != await texts(-1)


async def test_a_stop_string_across_tokens_cuts_the_text(server: Running) -> None:
    body: dict[str, Any] = {
        "model": "tiny",
        "prompt": "the router sends",
        "max_tokens": 40,
        "temperature": 0,
    }
    full = await server.client.completions.create(**body)
    text = full.choices[0].text
    # Every place in the text, so that tokens' boundaries fall before, inside and after the stop.
    for start in range(1, min(len(text) - 3, 12)):
        stop = text[start : start + 3]
        cut = text[: text.index(stop)]
        answer = await server.client.completions.create(**body, stop=["zzzz", stop])
        choice: Any = answer.choices[0]
        assert (choice.text, choice.finish_reason, choice.stop_reason) == (cut, "stop", stop)
        assert await streamed_text(server.client, **body, stop=stop) == cut
        kept = await server.client.completions.create(
            **body, stop=stop, extra_body={"include_stop_str_in_output": True}
        )
        assert kept.choices[0].text == cut + stop
    await server.until(server.settled)


async def test_a_stop_string_frees_the_choice_and_leaves_the_others(checkpoint: Path) -> None:
    async with serving(checkpoint) as server:
        answer = await server.client.completions.create(
            model="tiny", prompt="hello", max_tokens=30, n=4, seed=1, stop=["e", "a", "o"]
        )
        assert len(answer.choices) == 4
        for choice in answer.choices:
            assert not {"e", "a", "o"} & set(choice.text)
        await server.until(server.settled)


async def test_a_stop_token_is_reported_and_not_shown(server: Running) -> None:
    body: dict[str, Any] = {"model": "tiny", "prompt": "hello", "max_tokens": 20, "temperature": 0}
    free = await server.client.completions.create(**body, logprobs=0)
    logprobs = free.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    token = logprobs.tokens[3]
    token_id = server.service.model.tokenizer.encode(token).ids[0]
    stopped = await server.client.completions.create(
        **body, extra_body={"stop_token_ids": [token_id]}
    )
    choice: Any = stopped.choices[0]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", token_id)
    assert stopped.usage is not None
    assert choice.text == "".join(logprobs.tokens[: stopped.usage.completion_tokens - 1])


async def test_chat_logprobs(server: Running) -> None:
    answer = await server.client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 5
    for entry in logprobs.content:
        values = [other.logprob for other in entry.top_logprobs]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        # Greedy: the chosen token is the likeliest.
        assert entry.logprob == values[0]
        assert entry.bytes is not None
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token
    text = b"".join(bytes(entry.bytes or []) for entry in logprobs.content)
    assert text.decode("utf-8", "replace") == answer.choices[0].message.content


async def test_streamed_logprobs_are_the_whole_ones(server: Running) -> None:
    body: dict[str, Any] = {
        "model": "tiny",
        "prompt": "hello world",
        "max_tokens": 6,
        "temperature": 0,
        "logprobs": 2,
        "echo": True,
    }
    whole = (await server.client.completions.create(**body)).choices[0]
    assert whole.logprobs is not None
    assert whole.logprobs.token_logprobs is not None
    assert whole.text.startswith("hello world")
    assert whole.logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in whole.logprobs.token_logprobs[1:])
    stream = await server.client.completions.create(**body, stream=True)
    text, tokens, offsets = "", list[str](), list[int]()
    async for chunk in stream:
        choice = chunk.choices[0]
        text += choice.text
        assert choice.logprobs is not None
        tokens += choice.logprobs.tokens or []
        offsets += choice.logprobs.text_offset or []
    assert text == whole.text
    assert tokens == whole.logprobs.tokens
    assert offsets == whole.logprobs.text_offset == sorted(offsets)


async def test_an_echo_with_nothing_after_it_scores_the_prompt(server: Running) -> None:
    prompts = ["hello world", "the router"]
    body: dict[str, Any] = {"model": "tiny", "prompt": prompts, "echo": True, "logprobs": 1}
    # A stop string and a token that would end the answer: neither concerns the prompt.
    eos = server.service.model.tokenizer.token_to_id("<|im_end|>")
    body |= {"stop": "router", "logit_bias": {str(eos): 100}}
    longer = await server.client.completions.create(**body, max_tokens=1)
    bare = await server.client.completions.create(**body, max_tokens=0)
    assert [choice.text for choice in bare.choices] == prompts
    assert bare.usage is not None
    assert (bare.usage.completion_tokens, bare.usage.total_tokens) == (0, bare.usage.prompt_tokens)
    for short, long in zip(bare.choices, longer.choices, strict=True):
        assert short.finish_reason == "length"
        assert short.logprobs is not None
        assert long.logprobs is not None
        assert short.logprobs.tokens == (long.logprobs.tokens or [])[:-1]
        # The two prompts may have been computed in one step or in two.
        values, expected = short.logprobs.token_logprobs or [], long.logprobs.token_logprobs or []
        assert values[0] is expected[0] is None
        assert values[1:] == pytest.approx(expected[1:-1], abs=0.1)
    body.pop("logprobs")
    whole = await server.client.completions.create(**body, max_tokens=0)
    assert [(choice.text, choice.logprobs) for choice in whole.choices] == [
        (prompt, None) for prompt in prompts
    ]
    texts = ["", ""]
    async for chunk in await server.client.completions.create(**body, max_tokens=0, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == prompts


async def test_prompt_logprobs(server: Running) -> None:
    answer: Any = await server.client.completions.create(
        model="tiny", prompt=[5, 6, 7], max_tokens=1, extra_body={"prompt_logprobs": 2}
    )
    listed = answer.choices[0].prompt_logprobs
    assert listed[0] is None
    assert "6" in listed[1]
    assert "7" in listed[2]
    assert min(entry["rank"] for entry in listed[1].values()) == 1
    several: Any = await server.client.completions.create(
        model="tiny", prompt=[[5, 6], [7]], n=2, max_tokens=1, extra_body={"prompt_logprobs": 0}
    )
    assert [len(choice.prompt_logprobs) for choice in several.choices] == [2, 2, 1, 1]


async def test_a_second_request_reports_its_cached_prefix(checkpoint: Path) -> None:
    async with serving(checkpoint, "--block-size", "16") as server:
        ids = list(range(10, 80))

        async def cached(prompt: list[int], **extra: Any) -> int:
            answer = await server.client.completions.create(
                model="tiny", prompt=prompt, max_tokens=1, extra_body=extra
            )
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            return answer.usage.prompt_tokens_details.cached_tokens or 0

        assert await cached(ids) == 0
        assert await cached(ids) == 64
        assert await cached([*ids[:40], 3, 4]) == 32
        assert await cached(ids, cache_salt="other") == 0
        assert await cached(ids, cache_salt="other") == 64


async def test_the_answer_is_cut_at_min_and_max_tokens(server: Running) -> None:
    create = server.client.completions.create
    eos = server.service.model.tokenizer.token_to_id("<|im_end|>")
    body: dict[str, Any] = {"model": "tiny", "prompt": "hello", "temperature": 0}
    eager = await create(**body, logit_bias={str(eos): 100}, max_tokens=9)
    assert (eager.choices[0].text, eager.choices[0].finish_reason) == ("", "stop")
    ignoring = await create(
        **body, logit_bias={str(eos): 100}, max_tokens=9, extra_body={"ignore_eos": True}
    )
    assert ignoring.choices[0].finish_reason == "length"
    patient = await create(
        **body, logit_bias={str(eos): 100}, max_tokens=9, extra_body={"min_tokens": 4}
    )
    assert patient.usage is not None
    assert patient.usage.completion_tokens == 5
    shown = await create(
        **body,
        logit_bias={str(eos): 100},
        max_tokens=2,
        extra_body={"ignore_eos": True, "skip_special_tokens": False},
    )
    assert shown.choices[0].text == "<|im_end|><|im_end|>"


async def test_completions_end_at_sixteen_and_chats_at_the_context(server: Running) -> None:
    body: dict[str, Any] = {"model": "tiny", "extra_body": {"ignore_eos": True}}
    short = await server.client.completions.create(prompt="hello", **body)
    assert short.usage is not None
    assert short.usage.completion_tokens == 16
    long = await server.client.chat.completions.create(messages=HELLO, **body)
    assert long.usage is not None
    assert long.usage.total_tokens == server.service.model.limits.max_model_len
    assert long.choices[0].finish_reason == "length"


@pytest.mark.parametrize("flag", ["--enable-force-include-usage"])
async def test_usage_can_be_forced_on_streams(checkpoint: Path, flag: str) -> None:
    async with serving(checkpoint, flag) as server:
        for options in ({}, {"stream_options": {"include_usage": False}}):
            stream = await server.client.completions.create(
                model="tiny", prompt="hello", max_tokens=2, stream=True, extra_body=options
            )
            assert [chunk.usage async for chunk in stream][-1] is not None


async def test_usage_on_every_chunk_is_part_of_asking_for_usage(server: Running) -> None:
    stream = await server.client.completions.create(
        model="tiny",
        prompt="hello",
        max_tokens=2,
        stream=True,
        extra_body={"stream_options": {"continuous_usage_stats": True}},
    )
    usages = [chunk.usage async for chunk in stream]
    assert usages
    assert not any(usages)


async def test_content_parts_and_an_open_last_message(server: Running) -> None:
    create = server.client.chat.completions.create
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 4, "temperature": 0}
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "hello world"}]}]
    plain = await create(messages=HELLO, **body)
    in_parts = await create(messages=parts, **body)
    assert in_parts.choices[0].message.content == plain.choices[0].message.content
    opened = await create(
        messages=[*HELLO, {"role": "assistant", "content": "the rou"}],
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
        **body,
    )
    assert opened.usage is not None
    assert plain.usage is not None
    assert opened.usage.prompt_tokens > plain.usage.prompt_tokens


async def test_generation_config_sets_the_defaults(checkpoint: Path) -> None:
    override = '{"temperature":0,"max_new_tokens":3}'
    async with serving(checkpoint, "--override-generation-config", override) as server:
        body: dict[str, Any] = {"model": "tiny", "prompt": "hello"}
        first = await server.client.completions.create(**body)
        second = await server.client.completions.create(**body)
        assert first.choices[0].text == second.choices[0].text
        assert first.usage is not None
        assert first.usage.completion_tokens == 3


async def test_a_lower_priority_number_is_served_first(checkpoint: Path) -> None:
    flags = ("--scheduling-policy", "priority", "--max-num-seqs", "1")
    async with serving(checkpoint, *flags, gated=True) as server:
        order: list[int] = []

        async def ask(priority: int) -> None:
            await server.client.completions.create(
                model="tiny", prompt="hello", max_tokens=3, extra_body={"priority": priority}
            )
            order.append(priority)

        calls = []
        for at, priority in enumerate((0, 5, 3, -2)):
            calls.append(asyncio.create_task(ask(priority)))
            await server.until(lambda at=at: server.engine.live == at + 1)  # type: ignore[misc]
        # The first step has begun with what had arrived by then, the queue is sorted after it.
        server.core.release_all()
        await asyncio.gather(*calls)
        assert [priority for priority in order if priority > 0] == [3, 5]
        assert order[-1] == 5
