"""What routers are told of recorded prompts."""

from router.core.prefix.blocks import BLOCK, DEPTHS
from router.sim.identity import described
from router.sim.workload import Arrival


def arrival(key: int, prompt: int, blocks: tuple[int, ...]) -> Arrival:
    return Arrival(key=key, at=0, prompt=prompt, answer=1, blocks=blocks, conversation=7)


def checkpoints(key: int, prompt: int, *blocks: int, block: int = 512) -> tuple[int, ...]:
    return described(arrival(key, prompt, blocks), block, stream=True).checkpoints


def depths(tokens: int) -> int:
    """Checkpoints of a prompt of so many tokens, four bytes each."""
    return sum(depth * BLOCK <= 4 * tokens for depth in DEPTHS)


def test_a_prompt_has_the_checkpoints_that_its_bytes_would_have() -> None:
    for tokens in (1, 127, 128, 5000, 90_000):
        assert len(checkpoints(1, tokens, *range(tokens // 512))) == depths(tokens)
    request = described(arrival(1, 5000, ()), 512, stream=False)
    assert (request.prompt_bytes, request.body_bytes, request.stream) == (20_000, 20_000, False)


def test_prompts_share_checkpoints_up_to_the_block_in_which_they_part() -> None:
    one, other = checkpoints(1, 2048, 1, 2, 3, 4), checkpoints(2, 2048, 1, 2, 8, 9)
    shared = depths(1024)
    assert one[:shared] == other[:shared]
    assert not set(one[shared:]) & set(other[shared:])


def test_what_fills_no_block_is_nobody_elses() -> None:
    one, other = checkpoints(1, 1000, 1), checkpoints(2, 1000, 1)
    shared = depths(512)
    assert len(one) == depths(1000) > shared
    assert one[:shared] == other[:shared]
    assert not set(one[shared:]) & set(other[shared:])


def test_small_blocks_do_as_well() -> None:
    one = checkpoints(1, 640, *range(40), block=16)
    other = checkpoints(2, 640, *range(20), *range(100, 120), block=16)
    assert one[: depths(320)] == other[: depths(320)]
    assert not set(one[depths(320) :]) & set(other[depths(320) :])


def test_where_the_trace_says_how_much_text_a_token_is_checkpoints_are_there() -> None:
    """Blocks of 512 bytes, whatever tokens they have: a checkpoint is of as many whole blocks."""
    one, other = (
        described(arrival(key, 1000, blocks), 100, stream=True, block_bytes=BLOCK)
        for key, blocks in ((1, (1, 2, 3, 4, 5)), (2, (1, 2, 3, 8, 9)))
    )
    assert one.prompt_bytes == 10 * BLOCK
    assert len(one.checkpoints) == sum(depth <= 10 for depth in DEPTHS)
    assert one.checkpoints[:3] == other.checkpoints[:3]
    assert not set(one.checkpoints[3:]) & set(other.checkpoints[3:])


def test_model_and_tenant_are_told() -> None:
    asked = Arrival(
        key=1, at=0, prompt=9, answer=1, blocks=(), conversation=7, model="m", tenant="t"
    )
    request = described(asked, 512, stream=False)
    assert (request.model, request.tenant) == ("m", "t")


def test_turns_of_one_conversation_have_one_key() -> None:
    first, second = (described(arrival(key, 600, (1,)), 512, stream=True) for key in (1, 2))
    assert first.prefix_hash == second.prefix_hash
    assert first.id != second.id
