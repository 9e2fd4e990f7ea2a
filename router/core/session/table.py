"""Where sessions went, and until when: a bounded table from 64-bit key to endpoint slot.

An entry is two 64-bit words: 48 bits of the key and 16 bits of slot + 1, then the time at which it
expires, in milliseconds. The worker processes of a machine share the table in a mapped file without
locks: a word is written whole, both are written by whoever uses the session, and the worst that a
race can do is to send one request of one session elsewhere. Four-way buckets; a full one gives up
the entry that would expire first, so a session in use outlives one that is not.
"""

from array import array

WAYS = 4
_SLOT_BITS = 16
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_TAG_MASK = ~_SLOT_MASK & (1 << 64) - 1
_BUCKET_MASK = (1 << 32) - 1


class SessionTable:
    """Fixed size, never grows.

    Args:
        words: memory of unsigned 64-bit words, zero at first, two for each session; half its length
            a power of two and at least 4.

    Attributes:
        forgotten: sessions that were given up before their time, for want of room, by this process.
    """

    __slots__ = ("_buckets", "_words", "forgotten")

    def __init__(self, words: "memoryview[int] | array[int]") -> None:
        entries = len(words) // 2
        if entries < WAYS or entries & (entries - 1):
            raise ValueError(f"entries must be a power of two and at least {WAYS}, not {entries}")
        self._words = words
        self._buckets = entries // WAYS
        self.forgotten = 0

    @classmethod
    def of_size(cls, entries: int) -> "SessionTable":
        """A table in private memory."""
        return cls(array("Q", bytes(16 * entries)))

    def get(self, key: int, now: float) -> int | None:
        """The slot remembered for ``key`` (64-bit), or None if there is none or it has expired."""
        index = self._find(key)
        if index < 0 or self._words[index + 1] <= now * 1000:
            return None
        return (self._words[index] & _SLOT_MASK) - 1

    def put(self, key: int, slot: int, now: float, ttl: float) -> None:
        """Remember ``slot`` (0 to 65534) for ``key``, for ``ttl`` seconds from now on."""
        index = self._find(key)
        if index < 0:
            index = self._victim(key, now)
        words = self._words
        words[index] = key & _TAG_MASK | slot + 1
        words[index + 1] = int((now + ttl) * 1000)

    def _find(self, key: int) -> int:
        base = (key & _BUCKET_MASK) % self._buckets * WAYS * 2
        tag = key & _TAG_MASK
        words = self._words
        for index in range(base, base + WAYS * 2, 2):
            word = words[index]
            if word & _TAG_MASK == tag and word & _SLOT_MASK:
                return index
        return -1

    def _victim(self, key: int, now: float) -> int:
        """The entry to overwrite: a free one, or the one that expires first."""
        base = (key & _BUCKET_MASK) % self._buckets * WAYS * 2
        words = self._words
        index = min(range(base, base + WAYS * 2, 2), key=lambda at: words[at + 1])
        if words[index + 1] > now * 1000:
            self.forgotten += 1
        return index

    def __len__(self) -> int:
        """Entries in use, expired or not; walks the whole table."""
        return sum(1 for word in self._words[::2] if word)
