"""The demo's acts. Each does something to the router and then says what must have come of it.

A claim is only printed with its evidence: the turns and the admin API's answers of this very run.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp

from router.cli.demo_chat import Conversation, Turn
from router.cli.demo_children import Child
from router.cli.demo_view import DemoView

CLUSTER = "engines"
SETTLE_LIMIT = 30.0
UNDER_WAY_LIMIT = 3.0

SCRIPT: Mapping[str, tuple[str, ...]] = {
    "ada": (
        "Hello, my name is Ada.",
        "What is a KV cache?",
        "Why does it matter?",
        "What is my name?",
    ),
    "ben": (
        "What is prefix caching?",
        "Why does it matter?",
        "What is prefill?",
        "What is decode?",
    ),
    "cleo": (
        "What is the capital of France?",
        "And of Japan?",
        "What is 3 plus 4?",
        "What is a load balancer?",
    ),
    "dan": (
        "What is continuous batching?",
        "Why does it matter?",
        "Who painted the Mona Lisa?",
        "What is speculative decoding?",
    ),
}
OPENINGS = (
    "What is paged attention?",
    "What is the capital of Italy?",
    "What is chunked prefill?",
    "What is 2 plus 5?",
    "What is throughput?",
    "What sound does a cow make?",
    "What is TTFT?",
    "What is a block table?",
    "What is the opposite of hot?",
    "What is a tokenizer?",
    "What is goodput?",
    "What is a retry budget?",
)


class Stage:
    """What a story plays on.

    Args:
        engines: endpoint address -> its process.
        url: of the router's API.
        admin: of its admin API.
        model: what requests name.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        engines: dict[str, Child],
        url: str,
        admin: str,
        model: str,
    ) -> None:
        self.session = session
        self.engines = engines
        self.url = url
        self.admin = admin
        self.model = model

    async def endpoint(self, address: str) -> dict[str, Any]:
        url = f"{self.admin}/clusters/{CLUSTER}/endpoints/{address}"
        async with self.session.get(url, raise_for_status=True) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def set_state(self, address: str, state: str) -> None:
        """What ``warmpath drain`` and ``warmpath ready`` do."""
        url = f"{self.admin}/clusters/{CLUSTER}/endpoints/{address}"
        async with self.session.patch(url, json={"state": state}, raise_for_status=True):
            pass

    async def until(self, address: str, limit: float, **wanted: object) -> bool:
        """Whether these fields of the endpoint take these values in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while True:
                    endpoint = await self.endpoint(address)
                    if all(endpoint[name] == value for name, value in wanted.items()):
                        return True
                    await asyncio.sleep(0.02)
        return False


class Story:
    """The acts, in order; ``failed`` counts claims that did not hold."""

    def __init__(self, stage: Stage, view: DemoView) -> None:
        self._stage = stage
        self._view = view
        self._turns: list[Turn] = []
        self._openings = itertools.cycle(OPENINGS)
        self._names = (f"new-{number}" for number in itertools.count(1))
        self._chats = [
            Conversation(name, questions, streamed=index % 2 == 0)
            for index, (name, questions) in enumerate(SCRIPT.items())
        ]
        self.failed = 0

    async def run(self) -> None:
        await self._conversations()
        victim = self._busiest()
        await self._kill(victim)
        await self._restart(victim)
        await self._drain(next(address for address in self._stage.engines if address != victim))
        await self._summary()

    # --- acts -------------------------------------------------------------------------------

    async def _conversations(self) -> None:
        self._view.heading(
            "Conversations",
            f"{len(self._chats)} at a time, every other one streamed (times in brackets: the whole"
            " answer). A new one goes to the least loaded replica and then stays there, where its"
            " history is in the KV cache.",
        )
        with self._view.table() as rows:
            for _ in range(3):
                await self._turn(self._chats, rows)
        first = Counter(chat.turns[0].endpoint for chat in self._chats)
        self._claim(
            len(first) > 1,
            "new conversations were spread: "
            + ", ".join(f"{count} to {self._view.name(a)}" for a, count in first.most_common()),
        )
        later = [turn for chat in self._chats for turn in chat.turns[1:]]
        stayed = [t for c in self._chats for t in c.turns[1:] if t.endpoint == c.turns[0].endpoint]
        self._claim(len(stayed) == len(later), "every later turn went to its first turn's replica")
        warm = [turn for turn in later if turn.cached_tokens]
        tokens = sum(turn.cached_tokens or 0 for turn in later)
        prompt = sum(turn.prompt_tokens or 0 for turn in later)
        self._claim(
            len(warm) == len(later),
            f"and found its prefix there: {tokens} of {prompt} prompt tokens were cached",
        )

    async def _kill(self, victim: str) -> None:
        name = self._view.name(victim)
        self._view.heading(
            "A replica dies",
            "SIGKILL while it has requests under way. What has not begun to answer is tried on"
            " another replica.",
        )
        with self._view.table() as rows:
            # Not streamed: their answers have no first byte until they are complete, so that the
            # kill falls before it.
            asking = asyncio.create_task(self._turn(self._chats, rows, streamed=False))
            under_way = await self._under_way(victim)
            await self._stage.engines[victim].kill()
            await asking
            moved = list(rows)
            await self._turn(self._newcomers(2), rows)
            turns = list(rows)
        self._claim(under_way > 0, f"{name} was killed with {under_way} requests under way")
        self._claim(not any(turn.error for turn in turns), "no request failed")
        theirs = [c for c in self._chats if c.turns[-2].endpoint == victim]
        self._claim(
            bool(theirs) and all(c.turns[-1].endpoint not in ("", victim) for c in theirs),
            f"its conversations ({', '.join(c.name for c in theirs)}) go on elsewhere",
        )
        self._claim(
            all(turn.endpoint != victim for turn in turns[len(moved) :]),
            "new conversations avoid it",
        )

    async def _restart(self, victim: str) -> None:
        name = self._view.name(victim)
        self._view.heading(
            "It comes back", "The same address; health checks find it by themselves."
        )
        child = self._stage.engines[victim]
        noticed = await self._stage.until(victim, SETTLE_LIMIT, healthy=False)
        self._claim(noticed, f"the router's health checks saw {name} fail")
        with self._view.console.status(f"starting {name} ..."):
            await child.start()
            await child.ready(self._stage.session)
            back = await self._stage.until(victim, SETTLE_LIMIT, healthy=True, usable=True)
        self._claim(back, f"{name} is healthy again")

    async def _drain(self, drained: str) -> None:
        name = self._view.name(drained)
        self._view.heading(
            "Maintenance",
            f"PATCH {self._stage.admin}/clusters/{CLUSTER}/endpoints/{drained}"
            ' {"state": "drain"}: no new request, what runs may finish.',
        )
        await self._stage.set_state(drained, "drain")
        with self._view.table() as rows:
            await self._turn(self._newcomers(4), rows)
            without = list(rows)
        self._claim(
            all(turn.endpoint not in ("", drained) for turn in without),
            f"while {name} was drained, nothing new went there",
        )
        empty = await self._stage.until(drained, SETTLE_LIMIT, in_flight=0)
        self._claim(empty, f"{name} ran empty and could be serviced")
        await self._stage.set_state(drained, "ready")
        with self._view.table() as rows:
            await self._turn(self._newcomers(4), rows)
            taken = sum(turn.endpoint == drained for turn in rows)
        self._claim(taken > 0, f"ready again, {name} got {taken} of 4 new conversations")

    async def _summary(self) -> None:
        self._view.heading("Summary", "")
        answered = [turn for turn in self._turns if turn.error is None]
        self._claim(
            len(answered) == len(self._turns),
            f"{len(answered)} of {len(self._turns)} requests were answered",
        )
        idle = [
            await self._stage.until(address, SETTLE_LIMIT, in_flight=0)
            for address in self._stage.engines
        ]
        self._claim(all(idle), "nothing is in flight any more")

    # --- their means ------------------------------------------------------------------------

    async def _turn(
        self, chats: Sequence[Conversation], rows: list[Turn], *, streamed: bool | None = None
    ) -> None:
        """One turn of each of these conversations, all at once."""
        stage = self._stage
        tasks = [
            asyncio.create_task(
                chat.next_turn(stage.session, stage.url, stage.model, streamed=streamed)
            )
            for chat in chats
        ]
        await asyncio.sleep(0)  # each has put its turn into its list now
        turns = [chat.turns[-1] for chat in chats]
        rows += turns
        self._turns += turns
        await asyncio.gather(*tasks)

    def _newcomers(self, count: int) -> list[Conversation]:
        def some() -> Iterator[Conversation]:
            for _ in range(count):
                yield Conversation(next(self._names), (next(self._openings),), streamed=True)

        return list(some())

    def _busiest(self) -> str:
        """The replica that most conversations are with."""
        counts = Counter(chat.endpoint for chat in self._chats)
        return max(self._stage.engines, key=lambda address: counts[address])

    async def _under_way(self, address: str) -> int:
        """Requests in flight there, as soon as there are any."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNDER_WAY_LIMIT):
                while True:
                    count = int((await self._stage.endpoint(address))["in_flight"])
                    if count:
                        return count
                    await asyncio.sleep(0.002)
        return 0

    def _claim(self, holds: bool, text: str) -> None:
        self.failed += not holds
        self._view.claim(holds, text)
