"""Runs a scenario's requests through our proxy over real sockets and says what became of each.

An outcome is one line, such as ``503 UC,URX x2``: the status, the response flags, the number of
attempts where there were several, ``cut`` for a body that did not end, ``late`` for an answer
that took at least a second longer than Envoy's.
"""

import asyncio
import json
import random
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from router.config.build import build
from router.config.load import loads
from router.core.director import Director
from router.proxy.server import ProxyServer
from router.telemetry.record import ExchangeRecord
from router.telemetry.recorder import NoRecorder
from tests.oracle.backend import Backend
from tests.oracle.control import Control
from tests.oracle.translate import translate

DATA = Path(__file__).parents[1] / "data/oracle"


class Answer(msgspec.Struct):
    """What a client saw."""

    status: int
    headers: dict[str, str]
    cut: bool
    took: float

    @property
    def backend(self) -> str | None:
        return self.headers.get("x-backend")


class Recorder(NoRecorder):
    def __init__(self) -> None:
        self.records: dict[str, ExchangeRecord] = {}

    def exchange_ended(self, record: ExchangeRecord) -> None:
        self.records[record.request_id] = record


class Scenario:
    """One scenario's data, backends and proxy; use as an async context manager.

    Attributes:
        left_out: names of routes that we cannot express.
    """

    def __init__(self, name: str) -> None:
        self.data: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
        self.steps: list[dict[str, Any]] = self.data["steps"]
        self.backends: dict[str, Backend] = {}
        self.recorder = Recorder()
        self.left_out: list[str] = []
        self._serial = 0

    async def configuration(self) -> dict[str, Any]:
        """Start the backends; our configuration for them, as plain data."""
        for name, spec in self.data["backends"].items():
            backend = Backend(
                name,
                spec.get("default", {}),
                script=spec.get("script", ()),
                down=spec.get("down", False),
            )
            self.backends[name] = backend
            await backend.start()
        ports = {name: backend.port for name, backend in self.backends.items()}
        config, self.left_out = translate(self.data["envoy"], ports)
        return config

    async def text(self) -> str:
        """Start the backends; our configuration for them."""
        return str(yaml.safe_dump(await self.configuration(), sort_keys=False))

    async def __aenter__(self) -> Self:
        snapshot = build(loads(await self.text(), "scenario", {}), 1)
        self.control = Control()
        director = Director(snapshot, self.control.fleet, random.Random(5))
        await self.control.start(snapshot)
        clock = asyncio.get_running_loop().time
        self.server = ProxyServer(director, self.recorder, clock=clock)
        sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = sock.getsockname()[1]
        await self.server.listen(sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()
        await self.control.close()
        await self.stop_backends()

    async def stop_backends(self) -> None:
        for backend in self.backends.values():
            await backend.stop()

    def configure(self, step: dict[str, Any]) -> None:
        """A ``set`` step: what backends do from now on."""
        for name, spec in step["set"].items():
            backend = self.backends[name]
            backend.script = list(spec.get("script", ()))
            backend.behaviour = spec.get("default", backend.behaviour)

    async def send(self, spec: dict[str, Any]) -> Answer:
        """One request of a ``requests`` step over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(20):
                return await self.exchange(reader, writer, spec)
        finally:
            writer.transport.abort()

    def ejected(self) -> dict[str, list[str]]:
        """Backends that are out of rotation, by cluster."""
        return {
            cluster: sorted(self.name_of(address) for address in self.control.ejected(cluster))
            for cluster in self.control.outliers.clusters
        }

    def name_of(self, address: str) -> str:
        """The backend that listens there."""
        port = int(address.rpartition(":")[2])
        return next(name for name, backend in self.backends.items() if backend.port == port)

    async def series(self, spec: dict[str, Any], count: int) -> list[Answer]:
        """Requests one after another over one connection; ``${i}`` is the number of each."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(30):
                answers = []
                for number in range(count):
                    answers.append(await self.exchange(reader, writer, _numbered(spec, number)))
                    await asyncio.sleep(spec.get("gap", 0))
                return answers
        finally:
            writer.transport.abort()

    async def exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spec: dict[str, Any]
    ) -> Answer:
        """One request of a ``requests`` step over a connection that is open."""
        clock = asyncio.get_running_loop().time
        started = clock()
        self._serial += 1
        method = spec.get("method", "GET")
        headers = {"host": "oracle.test", "x-request-id": f"r{self._serial}"}
        headers |= {k.lower(): str(v) for k, v in _headers(spec.get("headers", {})).items()}
        if "body" in spec:
            headers["content-length"] = str(len(spec["body"]))
        lines = [f"{method} {_text(spec.get('path', '/'), '/')} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + spec.get("body", "").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:-2])}
        status = int(head[0].split()[1])
        fields[":id"] = headers["x-request-id"]
        whole = status == 204 or method == "HEAD" or await _read_body(reader, fields)
        return Answer(status, fields, not whole, clock() - started)

    async def outcome(self, answer: Answer, late_after: float | None = None) -> str:
        """The answer and what our record says of it."""
        record = await self.record(answer)
        flags = record.flag if record is not None and record.flag != "-" else ""
        attempts = record.attempts if record is not None else 0
        late = late_after is not None and answer.took > late_after + 1
        return outcome(answer.status, flags, attempts, cut=answer.cut, late=late)

    async def record(self, answer: Answer) -> ExchangeRecord | None:
        """Ours; it may be written a moment after the client's last byte."""
        for _ in range(200):
            if answer.headers[":id"] in self.recorder.records:
                break
            await asyncio.sleep(0.005)
        return self.recorder.records.get(answer.headers[":id"])

    async def raw(self, sends: list[Any], patience: float = 0.4) -> list[int]:
        """The statuses that come back for raw bytes, until the peer closes or is silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            for piece in sends:
                text, wait = (
                    (piece["send"], piece["wait"]) if isinstance(piece, dict) else (piece, 0)
                )
                writer.write(text.encode("latin-1").decode("unicode_escape").encode("latin-1"))
                await asyncio.sleep(wait)
            while data := await asyncio.wait_for(reader.read(65536), patience):
                received += data
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def _numbered(spec: dict[str, Any], number: int) -> dict[str, Any]:
    if "${i}" not in str(spec):
        return spec
    headers = {k: str(v).replace("${i}", str(number)) for k, v in spec["headers"].items()}
    return spec | {"headers": headers}


def outcome(
    status: int, flags: str, attempts: int, *, cut: bool = False, late: bool = False
) -> str:
    words = [str(status)]
    if flags:
        words.append(",".join(sorted(flags.split(","))))
    if attempts > 1:
        words.append(f"x{attempts}")
    return " ".join([*words, *(["cut"] if cut else []), *(["late"] if late else [])])


def envoys_outcome(row: dict[str, Any]) -> str:
    return outcome(row["status"], row["flags"], row["attempts"], cut=row.get("truncated", False))


def shares(answers: list[Answer]) -> dict[str, float]:
    """Percent of the answers by backend."""
    counts = Counter(str(answer.backend) for answer in answers)
    return {name: 100 * count / len(answers) for name, count in sorted(counts.items())}


def _headers(spec: dict[str, Any]) -> dict[str, Any]:
    if "x-" in spec:
        return {f"x-{index}": "v" for index in range(spec["x-"]["numbered"])}
    return {name: _text(value, "") for name, value in spec.items()}


def _text(value: Any, before: str) -> str:
    if isinstance(value, dict):
        return before + str(value["repeat"]) * int(value["count"])
    return str(value)


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bool:
    """Whether the body came to its end."""
    try:
        if "chunked" in fields.get("transfer-encoding", ""):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        else:
            await reader.readexactly(int(fields.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    return True
