"""The keys that token issuers sign with, fetched and kept fresh.

A set that cannot be fetched, or is none, leaves the last good one in use: an identity provider that
is down for an hour must not lock everybody out. After a failure it is asked again soon, then less
and less often. Files are read again when they change.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from router.config.access import Auth, JwtSpec
from router.control.discovery.changes import Changes
from router.control.messages import KeySets
from router.telemetry.logs import logger
from router.telemetry.totals import Totals

TIMEOUT = 10.0
MAX_SET = 1 << 20
"""Bytes; a set has a few KB."""
FIRST_RETRY = 1.0
"""Seconds; doubled with each failure in a row, up to the refresh interval."""
FILE_INTERVAL = 1.0
"""Seconds between two looks at a file."""

Place = tuple[str, str, float]
"""Issuer, where its keys are, and how often they are fetched."""


class KeySetFault(Exception):
    """No usable key set; the message is one line for an operator."""


class _JwkSet(msgspec.Struct):
    keys: list[dict[str, Any]]


class KeySetState(msgspec.Struct):
    """What is known of one issuer's keys. ``fetched_at``: loop time of the last good answer."""

    fetched_at: float | None = None
    keys: int = 0
    error: str | None = None
    fetches: int = 0
    failures: int = 0


class IssuerKeys:
    """Fetches the key sets of the configured issuers.

    Args:
        publish: takes all sets whenever one changed.
    """

    def __init__(self, publish: Callable[[KeySets], None]) -> None:
        self._publish = publish
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._sets: dict[str, bytes] = {}
        self.states: dict[str, KeySetState] = {}
        self._log = logger("issuers")

    def reconcile(self, auth: Auth) -> None:
        """Follow a new configuration; the sets of issuers that stay are kept."""
        wanted = {_place(spec): spec for spec in auth.jwt}
        for place in [place for place in self._tasks if place not in wanted]:
            self._tasks.pop(place).cancel()
        names = {spec.issuer for spec in auth.jwt}
        self.states = {name: state for name, state in self.states.items() if name in names}
        kept = {name: data for name, data in self._sets.items() if name in names}
        if kept != self._sets:
            self._sets = kept
            self._publish(KeySets(sets=dict(kept)))
        for place, spec in wanted.items():
            if place not in self._tasks:
                self.states.setdefault(spec.issuer, KeySetState())
                self._tasks[place] = asyncio.create_task(self._keep(spec))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, spec: JwtSpec) -> None:
        if spec.jwks.startswith("file:"):
            await self._keep_file(spec, Path(spec.jwks.removeprefix("file:")))
        else:
            await self._keep_url(spec)

    async def _keep_file(self, spec: JwtSpec, path: Path) -> None:
        changes = Changes(lambda: [path])
        changed = True
        while True:
            if changed:
                changes.mark()
                await self._take(spec, asyncio.to_thread(_read, path))
            await asyncio.sleep(FILE_INTERVAL)
            changed = await changes.settled()

    async def _keep_url(self, spec: JwtSpec) -> None:
        retry = FIRST_RETRY
        while True:
            if await self._take(spec, _fetch(spec.jwks)):
                pause, retry = float(spec.refresh), FIRST_RETRY
            else:
                pause, retry = retry, retry * 2
            await asyncio.sleep(min(pause, float(spec.refresh)))

    async def _take(self, spec: JwtSpec, answer: Any) -> bool:
        """Use what is fetched if it is a key set; whether it was."""
        state = self.states[spec.issuer]
        state.fetches += 1
        try:
            data: bytes = await answer
            state.keys = _count(data)
        except KeySetFault as fault:
            state.failures += 1
            if state.error is None:
                self._log.error("no keys of an issuer", issuer=spec.issuer, error=str(fault))
            state.error = str(fault)
            return False
        state.error = None
        state.fetched_at = asyncio.get_running_loop().time()
        if self._sets.get(spec.issuer) != data:
            self._sets[spec.issuer] = data
            self._publish(KeySets(sets=dict(self._sets)))
            self._log.info("keys of an issuer", issuer=spec.issuer, keys=state.keys)
        return True

    def add_to(self, totals: Totals, now: float) -> None:
        """Add the metrics of this moment."""
        totals.counters["issuer_fetches_total"] = {
            labels: float(count)
            for name, state in self.states.items()
            for labels, count in (
                ((name, "ok"), state.fetches - state.failures),
                ((name, "failed"), state.failures),
            )
        }
        totals.gauges["issuer_keys_age_seconds"] = {
            (name,): now - state.fetched_at
            for name, state in self.states.items()
            if state.fetched_at is not None
        }


def _place(spec: JwtSpec) -> Place:
    return spec.issuer, spec.jwks, float(spec.refresh)


def _count(data: bytes) -> int:
    try:
        keys = msgspec.json.decode(data, type=_JwkSet).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeySetFault(f"no JWK set: {error}") from None
    if not keys:
        raise KeySetFault("the JWK set holds no key")
    return len(keys)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_SET)
    except OSError as error:
        raise KeySetFault(f"cannot read {path}: {error.strerror}") from None


async def _fetch(url: str) -> bytes:
    limit = aiohttp.ClientTimeout(total=TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=limit) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise KeySetFault(f"{url} answered {response.status}")
            data = await response.content.read(MAX_SET + 1)
            while len(data) <= MAX_SET and not response.content.at_eof():
                data += await response.content.read(MAX_SET + 1 - len(data))
    except TimeoutError:
        raise KeySetFault(f"{url} did not answer within {TIMEOUT:g}s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise KeySetFault(f"{url}: {error or type(error).__name__}") from None
    if len(data) > MAX_SET:
        raise KeySetFault(f"the answer is larger than {MAX_SET} bytes")
    return data
