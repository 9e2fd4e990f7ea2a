"""Which of a table's routes can take a request, found without trying each.

Candidates, in their order, are those of one model. Where several of them want one header to have
one exact value, they are sorted by that value: a request reads the header once and looks only at
those of its own value and at those that do not ask for the header so. The routes that remain are
tried one by one, so what matches, and which chance is drawn, is the same.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from router.core.clock import Rng
from router.core.matching import Matcher
from router.core.model import LlmRequest

if TYPE_CHECKING:
    from router.core.routing import Route

SORTED_FROM: Final = 2
"""Routes with the same header from which on it is read first."""


class Candidates:
    """Routes in order of precedence, of which the first that takes the request wins.

    Args:
        header: what they were sorted by already; a blank where the request's value is nobody's.

    Attributes:
        certain: the first where it takes whatever comes here, so that nothing is to be compared.
    """

    __slots__ = ("_header", "_of_value", "_routes", "certain")

    def __init__(self, routes: Sequence["Route"], header: str = "") -> None:
        first = routes[0] if routes else None
        self.certain = first if first is not None and _decided(first.match, header) else None
        self._routes = tuple(routes)
        found = "" if header or self.certain is not None else _most_wanted(routes)
        self._header = found.encode("latin-1")
        self._of_value: dict[bytes | None, Candidates | None] = {}
        if found:
            wanted = (_wanted(route.match, found) for route in routes)
            self._of_value = dict.fromkeys((None, *wanted))

    def match(self, request: LlmRequest, rng: Rng) -> "Route | None":
        """The first that takes the request, or None."""
        found = self
        if self._header:
            value = request.header(self._header)
            found = self._of_value.get(value) or self._left_by(value)
            if found.certain is not None:
                return found.certain
        for route in found._routes:
            if route.match.matches(request, rng):
                return route
        return None

    def _left_by(self, value: bytes | None) -> "Candidates":
        """Those that this value of the header leaves; made on first use, for with many models
        and values most of the combinations never come."""
        if value not in self._of_value:
            value = None
        found = self._of_value[value]
        if found is None:
            header = self._header.decode("latin-1")
            left = [r for r in self._routes if _wanted(r.match, header) in (None, value)]
            found = self._of_value[value] = Candidates(left, header if value is not None else " ")
        return found

    def __repr__(self) -> str:
        return f"<Candidates {[route.name for route in self._routes]} by {self._header!r}>"


def _wanted(match: Matcher, header: str) -> bytes | None:
    """The value that the header must have exactly; None where any other may do."""
    for name, condition in match.headers:
        if name == header and condition.kind == "exact" and not condition.invert:
            try:
                return None if condition.ignore_case else condition.value.encode("latin-1")
            except UnicodeEncodeError:
                return None  # no header has it: the route is tried, and does not match
    return None


def _most_wanted(routes: Sequence["Route"]) -> str:
    """The header that most routes want to have one value; empty where none is worth reading."""
    asked = Counter(
        name
        for route in routes
        for name in dict(route.match.headers)
        if _wanted(route.match, name) is not None
    )
    name, times = max(asked.items(), key=lambda item: item[1], default=("", 0))
    return name if times >= SORTED_FROM else ""


def _decided(match: Matcher, header: str) -> bool:
    """Whether the model, and the header if one was read, are all that the route asks for."""
    left = match.headers
    if len(left) == 1 and left[0][0] == header and _wanted(match, header) is not None:
        left = ()
    return match.bare(left)
