"""Where keys go, beside where a real Envoy sent them: weights, sizes, several policies."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.core.affinity import AffinityTable
from router.core.balancers.maglev import Maglev
from router.core.balancers.ring_hash import RingHash
from router.core.host import HostState
from router.core.model import Endpoint, EndpointId, LlmRequest
from router.core.shared_load import SoleWorker
from tests.core.world import request

RECORDED = json.loads((Path(__file__).parents[1] / "data/hashing/envoy.json").read_text())
CASES = RECORDED["cases"]


def numbered(number: int) -> LlmRequest:
    key = b"k%d" % number
    return request(
        headers=((b"x-key", key), (b"x-other", b"o%d" % number), (b"cookie", b"a=b; sid=" + key))
    )


def there(address: str, weight: int) -> Endpoint:
    host, _, port = address.partition(":")
    id_ = EndpointId(f"c/{address}")
    return Endpoint(id=id_, cluster="c", host=host, port=int(port), weight=weight)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_key_is_where_envoy_sent_it(case: dict[str, Any]) -> None:
    hosts = [
        HostState(there(address, weight), slot, SoleWorker())
        for slot, (address, weight) in enumerate(
            zip(RECORDED["hosts"], case["weights"], strict=True)
        )
    ]
    spec = msgspec.convert(case["balancer"], RingHash.Spec | Maglev.Spec)
    rng = random.Random(1)
    balancer = spec.build(rng, AffinityTable.of_size(64))
    ours = "".join(
        str(balancer.pick(numbered(number), hosts, rng)[0].slot)
        for number in range(len(case["owners"]))
    )
    assert ours == case["owners"]
    shares = Counter(ours)
    assert len(shares) == len(hosts), "or agreeing would be easy"
    assert shares["0"] > 10
