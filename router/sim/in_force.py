"""Which balancer wrote a log, by the words with which it gives its reasons."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

WORDS: Final[Mapping[str, str]] = {
    "new prefix, least work": "predicted_ttft",
    "least work, caches unpredictable": "predicted_ttft",
    "moved, sooner elsewhere": "predicted_ttft",
    "new session, least loaded": "prefix_hash",
    "least loaded, no session key": "prefix_hash",
    "moved, endpoint": "prefix_hash",
    "hash, first choice over bound": "prefix_hash",
    "least loaded, no hash key": "chwbl",
    "hash, next on the ring": "chwbl",
    "hash, all over bound": "chwbl",
    "hash, moved on": "maglev",
    "its turn": "round_robin",
    "weighted turn": "round_robin",
    "less loaded": "least_request",
    "least loaded by weight": "least_request",
    "least loaded": "least_request:selection=full_scan",
    "lower cost": "peak_ewma",
    "prefix match": "cache_aware",
    "no match, least loaded": "cache_aware",
    "no match, smallest tree": "cache_aware:fallback=smallest_tree",
    "least loaded, loads differ": "cache_aware",
    "least cost": "dynamo_cost",
    "drawn by cost": "dynamo_cost",
    "best score": "scored",
    "drawn by score": "scored:picker=weighted_random",
    "random": "random",
    # Said by hash balancers, or by none of them.
    "random, no hash key": "",
    "least loaded, all tried": "",
}
"""How a reason begins that only one balancer gives, and that balancer as it is written on a command
line, its other fields at their defaults. Words that several use are left out."""

_LONGEST_FIRST: Final = sorted(WORDS, key=len, reverse=True)

ENOUGH: Final = 0.9
"""Of the lines that tell: fewer are of more than one balancer."""


def policy(reasons: Counter[str]) -> str | None:
    """The policy that the reasons are of; None where they do not tell, or are of several."""
    votes: Counter[str] = Counter()
    for reason, count in reasons.items():
        word = next((word for word in _LONGEST_FIRST if reason.startswith(word)), "")
        if found := WORDS.get(word):
            votes[found] += count
    if not votes:
        return None
    names: Counter[str] = Counter()
    for text, count in votes.items():
        names[text.partition(":")[0]] += count
    ((best, count),) = names.most_common(1)
    if count < ENOUGH * names.total():
        return None
    return max((text for text in votes if text.partition(":")[0] == best), key=votes.__getitem__)
