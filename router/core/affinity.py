"""Where conversations were sent: a bounded table from 64-bit key to endpoint slot.

One entry is one 64-bit word (48 bits of the key, 16 bits of slot + 1), so that the worker
processes of a machine can share the table in a mapped file without locks: a word is written
whole, and the worst that a race can do is to forget or misplace one conversation, which costs one
cold prefix. Four-way buckets; a full bucket overwrites the entry that the key's bits point at.
"""

from array import array

WAYS = 4
_SLOT_BITS = 16
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_TAG_MASK = ~_SLOT_MASK & (1 << 64) - 1
_BUCKET_MASK = (1 << 32) - 1  # wider than the slot bits, or large tables would stay empty


class AffinityTable:
    """Fixed size, never grows.

    Args:
        words: memory of unsigned 64-bit words, zero at first; its length a power of two and at
            least 4. 65536 words (512 KiB) remember about as many conversations.
    """

    __slots__ = ("_buckets", "_words")

    def __init__(self, words: "memoryview[int] | array[int]") -> None:
        size = len(words)
        if size < WAYS or size & (size - 1):
            raise ValueError(f"size must be a power of two and at least {WAYS}, not {size}")
        self._words = words
        self._buckets = size // WAYS

    @classmethod
    def of_size(cls, size: int) -> "AffinityTable":
        """A table in private memory."""
        return cls(array("Q", bytes(8 * size)))

    def get(self, key: int) -> int | None:
        """The slot remembered for ``key`` (64-bit), or None."""
        base = (key & _BUCKET_MASK) % self._buckets * WAYS
        tag = key & _TAG_MASK
        words = self._words
        for index in range(base, base + WAYS):
            word = words[index]
            if word & _TAG_MASK == tag and word & _SLOT_MASK:
                return (word & _SLOT_MASK) - 1
        return None

    def put(self, key: int, slot: int) -> None:
        """Remember ``slot`` (0 to 65534) for ``key``."""
        base = (key & _BUCKET_MASK) % self._buckets * WAYS
        tag = key & _TAG_MASK
        words = self._words
        free = -1
        for index in range(base, base + WAYS):
            word = words[index]
            if word & _TAG_MASK == tag and word & _SLOT_MASK:
                words[index] = tag | (slot + 1)
                return
            if not word and free < 0:
                free = index
        index = free if free >= 0 else base + (key >> _SLOT_BITS) % WAYS
        words[index] = tag | (slot + 1)

    def __len__(self) -> int:
        """Entries in use; walks the whole table."""
        return sum(1 for word in self._words if word)
