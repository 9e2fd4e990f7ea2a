"""`--kv-events-config`: what is taken, what is refused, and which field the complaint names."""

from __future__ import annotations

import pytest

from engine.kv_events import KvEventsConfig, KvEventsError


def test_vllms_example_is_taken() -> None:
    text = '{"enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events"}'
    config = KvEventsConfig.parse(text)
    assert config.enabled
    assert (config.endpoint, config.replay_endpoint) == ("tcp://*:5557", None)
    assert (config.buffer_steps, config.topic) == (10_000, "kv-events")


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("{}", False),
        ('{"enable_kv_cache_events": true}', True),
        ('{"enable_kv_cache_events": true, "publisher": "null"}', False),
        ('{"enable_kv_cache_events": false, "publisher": "zmq"}', False),
    ],
)
def test_when_events_are_published(text: str, enabled: bool) -> None:
    assert KvEventsConfig.parse(text).enabled is enabled


@pytest.mark.parametrize(
    "endpoint", ["tcp://*:0", "tcp://127.0.0.1:65535", "tcp://[::1]:5557", "ipc:///run/kv.sock"]
)
def test_endpoints(endpoint: str) -> None:
    config = KvEventsConfig(endpoint=endpoint, replay_endpoint=endpoint)
    assert config.endpoint == endpoint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"publisher": "kafka"}', 'publisher must be "null" or "zmq", got \'kafka\''),
        ('{"enable_kv_cache_events": "yes"}', "$.enable_kv_cache_events"),
        ('{"buffer_stepz": 3}', "buffer_stepz"),
        ('{"buffer_steps": 0}', ">= 1 - at `$.buffer_steps`"),
        ('{"hwm": 2000000}', "<= 1000000 - at `$.hwm`"),
        ('{"max_queue_size": 1.5}', "$.max_queue_size"),
        ('{"topic": null}', "$.topic"),
        ('{"endpoint": "inproc://kv"}', "endpoint must be tcp://HOST:PORT or ipc://PATH"),
        ('{"endpoint": "tcp://*"}', "endpoint must be tcp://HOST:PORT"),
        ('{"endpoint": "tcp://*:70000"}', "endpoint must be tcp://HOST:PORT"),
        ('{"replay_endpoint": "udp://*:1"}', "replay_endpoint must be tcp://HOST:PORT"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(KvEventsError) as refused:
        KvEventsConfig.parse(text)
    assert complaint in str(refused.value)
