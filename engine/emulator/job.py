"""A request in the works: hands out tokens as the model produces them, misbehaves when told to.

The model says how many tokens exist (`sequence.produced`); the job keeps how many it has sent.
Tokens are a number until they are written, so a client that does not read costs no memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from engine.emulator.answers import Answer
from engine.emulator.connection import Exchange
from engine.emulator.faults import MIDWAY, Fault, Kind
from engine.emulator.readings import Reading
from engine.emulator.text import TOKENS, answer_text
from engine.emulator.timing import Sequence

if TYPE_CHECKING:
    from engine.emulator.service import EmulatorService

WRITE_BYTES: Final = 64 * 1024
# How long written bytes get to leave the socket before a reset throws away what is left.
RESET_GRACE: Final = 0.02
STREAM_HEAD: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
)


class Job:
    """One request on an inference path: an `answer` to generate or a `reading` to do."""

    __slots__ = (
        *("service", "exchange", "sequence", "fault", "sent", "ended"),
        *("answer", "reading", "_frames", "_opened", "_batch", "_step"),
    )

    def __init__(
        self,
        service: EmulatorService,
        exchange: Exchange,
        sequence: Sequence,
        fault: Fault | None,
        *,
        answer: Answer | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.service = service
        self.exchange = exchange
        self.sequence = sequence
        self.answer = answer
        self.reading = reading
        self.fault = fault
        self.sent = 0
        self.ended = False
        self._opened = False
        self._frames: list[tuple[bytes, bytes]] = []
        self._step = service.config.tokens_per_chunk
        self._batch = self._step

    @property
    def streams(self) -> bool:
        """Whether the answer goes out token by token."""
        return self.answer is not None and self.answer.work.stream

    def open(self) -> None:
        """Send the head of a stream."""
        self._opened = True
        assert self.answer is not None
        exchange = self.exchange
        self.answer.cached = self.sequence.cached
        data = b"".join(self._framed(e) for e in self.answer.opening())
        if self.answer.templated:
            self._frames = [self._frame(i) for i in range(self.answer.work.width)]
            size = sum(len(a) + len(b) for a, b in self._frames)
            self._batch = max(1, WRITE_BYTES // (size + 8)) * self._step
        exchange.write(exchange.head(STREAM_HEAD) + data)

    def progress(self) -> None:
        """The model has produced something."""
        sequence = self.sequence
        if not self.streams:
            if sequence.done:
                self._answer_whole()
            return
        if not self._opened:
            self.open()
        self.flush()

    def resume(self) -> None:
        """The client reads again."""
        if self._opened and not self.ended:
            self.flush()

    def flush(self) -> None:
        """Send what is there and not yet sent, as far as the client keeps up."""
        sequence, answer, exchange = self.sequence, self.answer, self.exchange
        assert answer is not None
        available = sequence.produced
        trouble = self.fault is not None and self.fault.kind in MIDWAY
        if trouble:
            assert self.fault is not None
            available = min(available, self.fault.after_chunks)
        whole = available == sequence.target
        step = self._step
        while not exchange.paused:
            count = min(available - self.sent, self._batch)
            if not whole and not trouble:
                count -= count % step
            if count <= 0:
                break
            exchange.write(self._events(self.sent, count))
            self.sent += count
        if self.sent < available:
            return
        if trouble and self.fault is not None and self.sent >= self.fault.after_chunks:
            self._misbehave(self.fault.kind)
        elif whole and self.sent == sequence.target:
            text = answer_text(sequence.target) if not answer.templated else b""
            data = b"".join(self._framed(e) for e in answer.closing(text))
            exchange.write(data + b"0\r\n\r\n" if exchange.chunked else data)
            self._end()

    def _answer_whole(self) -> None:
        sequence = self.sequence
        if self.answer is None:
            assert self.reading is not None
            body, kind = self.reading.render()
        else:
            self.answer.cached = sequence.cached
            body, kind = self.answer.whole(answer_text(sequence.target)), b"application/json"
        fault = self.fault
        if fault is not None and fault.kind in MIDWAY:
            self._answer_half(body, kind, fault.kind)
            return
        self.ended = True
        self.service.completed(self)
        self.exchange.respond(200, body, kind)

    def _answer_half(self, body: bytes, kind: bytes, trouble: Kind) -> None:
        exchange = self.exchange
        half = body[: len(body) // 2]
        if trouble is Kind.BAD_CHUNK and exchange.chunked:
            head = exchange.head(b"content-type: %b\r\n" % kind)
            exchange.write(head + self._framed(half))
        else:
            headers = b"content-type: %b\r\ncontent-length: %d\r\n" % (kind, len(body))
            exchange.write(exchange.head(headers, sized=True) + half)
        self._misbehave(trouble)

    def _misbehave(self, trouble: Kind) -> None:
        exchange = self.exchange
        self.ended = True
        self.service.spoilt(self)
        if trouble is Kind.RESET_MID:
            exchange.job = None
            asyncio.get_running_loop().call_later(RESET_GRACE, _reset_unless_gone, exchange)
            return
        if trouble is Kind.BAD_CHUNK:
            exchange.write(b"zz\r\nnot a chunk\r\n")
        exchange.close()

    def _end(self) -> None:
        self.ended = True
        self.service.completed(self)
        self.exchange.finish()

    # ------------------------------------------------------------ bytes

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.exchange.chunked else data

    def _frame(self, choice: int) -> tuple[bytes, bytes]:
        """Bytes around a full piece of text, chunk framing and padding included."""
        assert self.answer is not None
        before, after = self.answer.frame(choice)
        text = self._step * 4
        after = self._padding(text) + after
        if self.exchange.chunked:
            before = b"%x\r\n%b" % (len(before) + text + len(after), before)
            after += b"\r\n"
        return before, after

    def _padding(self, text: int) -> bytes:
        return b"." * max(0, self.service.config.chunk_size - text)

    def _events(self, first: int, count: int) -> bytes:
        """SSE events with tokens first .. first + count - 1, one per choice and piece."""
        parts: list[bytes] = []
        frames, step = self._frames, self._step
        end = first + count
        if frames and step == 1:
            for token in range(first, end):
                text = TOKENS[token % 1000]
                for before, after in frames:
                    parts += (before, text, after)
            return b"".join(parts)
        for start in range(first, end, step):
            size = min(step, end - start)
            text = answer_text(size, start)
            if frames and size == step:
                for before, after in frames:
                    parts += (before, text, after)
            else:
                parts += self._odd_piece(text)
        return b"".join(parts)

    def _odd_piece(self, text: bytes) -> list[bytes]:
        answer = self.answer
        assert answer is not None
        if not answer.templated:
            return [self._framed(answer.piece(text))]
        frames = [answer.frame(choice) for choice in range(answer.work.width)]
        padding = self._padding(len(text))
        return [self._framed(before + text + padding + after) for before, after in frames]

    def __repr__(self) -> str:
        return f"Job({self.exchange.path}, sent={self.sent}, {self.sequence!r})"


def _reset_unless_gone(exchange: Exchange) -> None:
    if not exchange.finished:
        exchange.reset()
