"""A name server on loopback that answers what a test put into its zone, by UDP."""

import asyncio
import socket
import struct
from contextlib import asynccontextmanager

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28, "SRV": 33}
NAMES = {number: name for name, number in TYPES.items()}
SERVFAIL, NXDOMAIN = 2, 3


def name_bytes(name: str) -> bytes:
    labels = [label for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def data_bytes(kind: str, value: str) -> bytes:
    if kind == "SRV":
        priority, weight, port, target = value.split()
        return struct.pack("!HHH", int(priority), int(weight), int(port)) + name_bytes(target)
    if kind == "CNAME":
        return name_bytes(value)
    return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, value)


class NameServer(asyncio.DatagramProtocol):
    """``zone``: records by name and kind, each (value, ttl). ``status``: a response code for all.

    ``asked`` lists the questions; ``silent``: none is answered.
    """

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[tuple[str, int]]] = {}
        self.status = 0
        self.silent = False
        self.garbled = False
        self.asked: list[tuple[str, str]] = []
        self.address = ""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        number, end, labels = data[:2], 12, []
        while length := data[end]:
            labels.append(data[end + 1 : end + 1 + length].decode().lower())
            end += 1 + length
        question = data[12 : end + 5]
        name, kind = ".".join(labels), NAMES[struct.unpack("!H", data[end + 1 : end + 3])[0]]
        self.asked.append((name, kind))
        if self.silent:
            return
        if self.garbled:
            self._transport.sendto(number + b"\x81\x80\0\1\0\5\0\0\0\0" + question, addr)
            return
        answers, status = self._answers(name, kind)
        head = struct.pack("!HHHHH", 0x8180 | status, 1, len(answers), 0, 0)
        self._transport.sendto(number + head + question + b"".join(answers), addr)

    def _answers(self, name: str, kind: str) -> tuple[list[bytes], int]:
        if self.status:
            return [], self.status
        alias = self.zone.get((name, "CNAME"))
        found = [(name, "CNAME", *alias[0])] if alias else []
        owner = alias[0][0] if alias else name
        found += [(owner, kind, *record) for record in self.zone.get((owner, kind), [])]
        known = any(owner == one for one, _ in self.zone)
        rows = []
        for who, what, value, ttl in found:
            data = data_bytes(what, value)
            rows.append(
                name_bytes(who) + struct.pack("!HHIH", TYPES[what], 1, ttl, len(data)) + data
            )
        return rows, 0 if known else NXDOMAIN


@asynccontextmanager
async def name_server():
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
