"""Header lines added, replaced and taken away on a route, as Envoy's header parsers do.

Of one set of edits the removals come first, then what is set, then what is added; a header whose
value comes out empty is left alone. A destination's edits come before its route's. Values may hold
a few of Envoy's command operators (``COMMANDS``), and ``%%`` for a percent sign.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from router.core.model import Endpoint, LlmRequest


class Facts(msgspec.Struct, frozen=True):
    """What the operators in a value may ask about. ``endpoint``: None where none was picked."""

    request: LlmRequest
    route: str
    cluster: str = ""
    endpoint: Endpoint | None = None


def _request_header(facts: Facts, argument: str) -> str:
    """``NAME``, or ``NAME?OTHER`` for the other where the first is absent."""
    request = facts.request
    for name in argument.split("?"):
        match name.lower():
            case ":path":
                return request.target.decode("latin-1")
            case ":method":
                return request.method
            case ":authority":
                return request.authority
        value = request.header(name.lower().encode("latin-1"))
        if value is not None:
            return value.decode("latin-1")
    return ""


Command = Callable[[Facts, str], str]

COMMANDS: Mapping[str, Command] = {
    "REQ": _request_header,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda facts, _: facts.request.client,
    "ROUTE_NAME": lambda facts, _: facts.route,
    "UPSTREAM_CLUSTER": lambda facts, _: facts.cluster,
    "UPSTREAM_HOST": lambda facts, _: "" if facts.endpoint is None else facts.endpoint.address,
    "MODEL": lambda facts, _: facts.request.model or "",
    "TENANT": lambda facts, _: facts.request.tenant or "",
    "PRIORITY": lambda facts, _: facts.request.priority.name.lower(),
}
"""By name. The last three are ours, the others Envoy's."""

_PART = re.compile(r"%%|%([A-Z_]+)(?:\(([^()%]*)\))?%|%|[^%]+")
# A name out of a body may hold anything; a header value must not end its line.
_UNPRINTABLE = re.compile(rb"[^\t -~\x80-\xff]")


class Template(msgspec.Struct, frozen=True):
    """A header's value. ``parts``: texts, and (command, argument) pairs."""

    parts: tuple[str | tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Raises ValueError saying which operator is not known."""
        parts: list[str | tuple[str, str]] = []
        for found in _PART.finditer(text):
            name, argument = found[1], found[2]
            if found[0] == "%%":
                parts.append("%")
            elif found[0] == "%":
                raise ValueError("a single %: a percent sign is written %%")
            elif name is None:
                parts.append(found[0])
            elif name not in COMMANDS:
                raise ValueError(f"%{name}% is not known: {', '.join(COMMANDS)} are")
            elif (name == "REQ") is not bool(argument):
                raise ValueError("%REQ(name)% takes a header's name, the others nothing")
            else:
                parts.append((name, argument or ""))
        return cls(tuple(parts))

    def render(self, facts: Facts) -> bytes:
        texts = [p if isinstance(p, str) else COMMANDS[p[0]](facts, p[1]) for p in self.parts]
        value = "".join(texts).encode("latin-1", "replace")
        return _UNPRINTABLE.sub(b"", value).strip(b" \t")


Lines = Sequence[tuple[bytes, Template]]


class HeaderEdits(msgspec.Struct, frozen=True, kw_only=True):
    """Names are in lower case. ``default``: added where there is no such header."""

    remove: frozenset[bytes] = frozenset()
    set: tuple[tuple[bytes, Template], ...] = ()
    add: tuple[tuple[bytes, Template], ...] = ()
    default: tuple[tuple[bytes, Template], ...] = ()

    def apply(self, lines: list[bytes], facts: Facts) -> list[bytes]:
        """The lines (``name: value``, without CRLF) as they are afterwards."""
        new = dict(_rendered(self.set, facts))
        gone = self.remove | new.keys()
        if gone:
            lines = [line for line in lines if field_name(line) not in gone]
        if self.default:
            there = {field_name(line) for line in lines}
            lines += [b"%b: %b" % p for p in _rendered(self.default, facts) if p[0] not in there]
        lines += [b"%b: %b" % pair for pair in new.items()]
        lines += [b"%b: %b" % pair for pair in _rendered(self.add, facts)]
        return lines


def field_name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _rendered(fields: Lines, facts: Facts) -> Iterator[tuple[bytes, bytes]]:
    for name, template in fields:
        if value := template.render(facts):
            yield name, value
