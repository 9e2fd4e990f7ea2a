"""A modelled engine: continuous batching in virtual time, as vLLM's scheduler does it.

Prompts are computed first come, first served, in chunks that share each step with all sequences
that decode. A sequence is admitted when it is the first in line and its prompt and answer have
room; nothing that runs is ever thrown out. Whoever is admitted finds what those before it have
computed, even in the same step.

Time passes in stretches. One with prompt tokens is a single step; one without is a run of equal
steps up to the next end of a sequence, whose time is known in closed form: nothing else changes
in it but the context, which grows by one token for each sequence and step. An arrival cuts a run
short at the end of the step it falls into. ``jump=False`` makes every stretch a single step; a
test proves that this comes to the same.
"""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from router.sim.kv_cache import NOTHING, Found, KvCache
from router.sim.profile import Profile


class Job:
    """One prompt and its answer at one engine.

    Attributes:
        key: the caller's, above zero, of no other sequence.
        blocks: ids of the prompt's full blocks; of the last ones there may be none.
        prompt: tokens of it.
        answer: tokens to generate, at least 1.
        cached: tokens of the prompt that were found when it was admitted.
        computed: tokens of the prompt that are in the cache or under way.
        expected: what will be found of it, as far as its engine knows when it comes.
    """

    __slots__ = ("answer", "blocks", "cached", "computed", "expected", "key", "prompt")

    def __init__(self, key: int, blocks: Sequence[int], prompt: int, answer: int) -> None:
        self.key = key
        self.blocks = blocks
        self.prompt = prompt
        self.answer = answer
        self.cached = 0
        self.computed = 0
        self.expected = NOTHING

    def __repr__(self) -> str:
        return f"<Job {self.key} {self.computed}/{self.prompt}+{self.answer}>"


class Engine:
    """One replica. Times are picoseconds.

    Args:
        block: tokens in a block of the prompts' ids.
        jump: whether steps that only decode are taken many at a time.

    Attributes:
        ends: when the present stretch ends, None while idle. ``advance`` is due then.
        waiting: those not admitted yet.
        queued_tokens: prompt tokens to compute for those.
        queued_time: what they add to steps.
        filling: the one whose prompt is partly computed.
        context: tokens in the context of those that decode, as the stretch began.
        busy: time of the stretches that are over.
        prefilling: time that prompts added to steps so far.
    """

    __slots__ = (
        "_decoding",
        "_jump",
        "_prefilled",
        "_promised",
        "_run",
        "_started",
        "_step",
        "busy",
        "cache",
        "context",
        "ends",
        "filling",
        "prefilling",
        "profile",
        "queued_time",
        "queued_tokens",
        "waiting",
    )

    def __init__(self, profile: Profile, block: int, *, jump: bool = True) -> None:
        self.profile = profile
        self.cache = KvCache(block, profile.kv_tokens, profile.host_tokens)
        self.waiting: deque[Job] = deque()
        self.queued_tokens = 0
        self.queued_time = 0
        self.filling: Job | None = None
        self.context = 0
        self.ends: int | None = None
        self.busy = self.prefilling = 0
        self._jump = jump
        self._decoding: list[tuple[int, int, Job]] = []  # heap by the step they end with
        self._prefilled: list[Job] = []
        self._promised: dict[int, int] = {}  # blocks of those that wait, and of how many
        self._run = 0
        self._started = 0
        self._step = 0

    # --- what others may know of it -----------------------------------------------------------

    @property
    def decoding(self) -> int:
        """Prompts whose first token is out."""
        return len(self._decoding)

    @property
    def running(self) -> int:
        """Prompts admitted."""
        return len(self._decoding) + len(self._prefilled) + (self.filling is not None)

    @property
    def load(self) -> int:
        """Prompts here."""
        return self.running + len(self.waiting)

    def step_ends(self, now: int) -> int:
        """When a sequence that comes now can be in a step."""
        if self.ends is None:
            return now
        if self._run == 1:
            return self.ends
        return self._started + self._run_time(self._steps_until(now))

    def expect(self, blocks: Sequence[int], prompt: int) -> Found:
        """What would be found of a prompt that comes now, when its turn has come."""
        found = self.cache.look(blocks, prompt)
        promised, block = self._promised, self.cache.block
        depth, most = found.cached // block, min((prompt - 1) // block, len(blocks))
        while depth < most and blocks[depth] in promised:
            depth += 1
        return Found(depth * block, found.reloaded)

    def work(self, prompt: int, found: Found) -> int:
        """Time that a prompt adds to steps."""
        computing = self.profile.prefill(prompt - found.cached, found.cached)
        return computing + self.profile.per_reloaded_token * found.reloaded

    # --- what happens -----------------------------------------------------------------------

    def submit(self, job: Job, now: int) -> None:
        """A request arrives.

        Raises:
            ValueError: it can never run here.
        """
        tokens = job.prompt + job.answer
        if not self.cache.fits(tokens):
            raise ValueError(f"{tokens} tokens do not fit in {self.profile.kv_tokens}")
        self._line_up(job)
        if self.ends is None:
            self._begin(now)
        elif self._run > 1:
            self._run = self._steps_until(now)
            self.ends = self._started + self._run_time(self._run)

    def advance(self) -> tuple[list[Job], list[Job]]:
        """The stretch has ended. Those that now have their first token, and those complete."""
        assert self.ends is not None
        now, steps = self.ends, self._run
        self._step += steps
        self.busy += now - self._started
        self.context += steps * len(self._decoding)
        first, self._prefilled = self._prefilled, []
        for job in first:
            self.context += job.prompt + 1
            last = self._step + job.answer - 1
            heappush(self._decoding, (last, job.key, job))
        done = []
        while self._decoding and self._decoding[0][0] == self._step:
            job = heappop(self._decoding)[2]
            self.context -= job.prompt + job.answer
            self._release(job)
            done.append(job)
        self._begin(now)
        return first, done

    def crash(self) -> list[Job]:
        """All that was here, in no state to go on; the cache is empty afterwards."""
        lost = [*self.waiting, *self._prefilled, *(entry[2] for entry in self._decoding)]
        if self.filling is not None:
            lost.append(self.filling)
        self.waiting.clear()
        self.queued_tokens = self.queued_time = 0
        self._promised.clear()
        self._prefilled.clear()
        self._decoding.clear()
        self.filling = None
        self.context = 0
        self.ends = None
        self.cache.clear()
        return lost

    # --- steps ------------------------------------------------------------------------------

    def _begin(self, now: int) -> None:
        """Compose the next stretch."""
        self._started = now
        self._run = 1
        decoding = len(self._decoding)
        added, computed = self._fill(self.profile.step_tokens - decoding)
        if not computed and not decoding:
            self.ends = None
            return
        if not computed and self._jump:
            self._run = self._decoding[0][0] - self._step
        self.prefilling += added
        self.ends = now + added + self._run_time(self._run)

    def _fill(self, room: int) -> tuple[int, int]:
        """Take prompts into the step. The time that this adds to it, and the tokens."""
        profile = self.profile
        added = computed = 0
        while computed < room:
            if (job := self.filling) is None:
                if (found := self._admit()) is None:
                    break
                added += profile.per_reloaded_token * found.reloaded
                job = self._leave_line()
                job.cached = job.computed = found.cached
            chunk = min(room - computed, job.prompt - job.computed)
            added += profile.prefill(chunk, job.computed)
            job.computed += chunk
            computed += chunk
            if job.computed == job.prompt:
                self._prefilled.append(job)
                self.filling = None
            else:
                self.filling = job
        return added, computed

    def _line_up(self, job: Job) -> None:
        expected = job.expected = self.expect(job.blocks, job.prompt)
        self.waiting.append(job)
        self.queued_tokens += job.prompt - expected.cached
        self.queued_time += self.work(job.prompt, expected)
        for block in job.blocks:
            self._promised[block] = self._promised.get(block, 0) + 1

    def _leave_line(self) -> Job:
        job = self.waiting.popleft()
        expected = job.expected
        self.queued_tokens -= job.prompt - expected.cached
        self.queued_time -= self.work(job.prompt, expected)
        for block in job.blocks:
            if (left := self._promised[block] - 1) == 0:
                del self._promised[block]
            else:
                self._promised[block] = left
        return job

    def _admit(self) -> Found | None:
        """Give the first in line its room; None if there is none, or nobody."""
        if not self.waiting or self.running >= self.profile.max_sequences:
            return None
        first = self.waiting[0]
        return self.cache.admit(first.blocks, first.prompt, first.answer)

    def _release(self, job: Job) -> None:
        rest = job.prompt + job.answer - len(job.blocks) * self.cache.block
        self.cache.release(job.blocks, rest, -job.key)

    def _run_time(self, steps: int) -> int:
        """Of the decoding in so many steps from the start of the stretch."""
        profile, decoding = self.profile, len(self._decoding)
        grown = profile.per_kv_token * decoding * (steps * (steps - 1) // 2)
        return steps * (profile.step + profile.decode(decoding, self.context)) + grown

    def _steps_until(self, now: int) -> int:
        """Steps of the run that have begun before ``now``, at least one."""
        fewest, most, elapsed = 1, self._run, now - self._started
        while fewest < most:
            middle = (fewest + most) // 2
            if self._run_time(middle) < elapsed:
                fewest = middle + 1
            else:
                most = middle
        return fewest

    def __repr__(self) -> str:
        return f"<Engine waiting={len(self.waiting)} running={self.running} {self.cache!r}>"
