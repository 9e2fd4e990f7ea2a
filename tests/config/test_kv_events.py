"""Whom the router listens to for what caches hold, and that it says what it lacks for that."""

import pytest

from router.config import kv_events
from router.config.build import build
from router.config.findings import ConfigError
from router.config.load import loads
from router.core.cluster import KvEvents
from tests.config.texts import MINIMAL

FORMS: dict[str, KvEvents | None] = {
    "off": None,
    "auto": KvEvents(),
    "5557": KvEvents(5557),
    "{subscribe: 5557, replay: 5558, topic: kv, max_blocks: 2000}": KvEvents(
        5557, 5558, "kv", 2000
    ),
    "{max_blocks: 2000}": KvEvents(most_blocks=2000),
}


def with_events(form: str) -> str:
    return MINIMAL.replace("[10.0.0.1:8000]", f"[10.0.0.1:8000]\n    kv_events: {form}")


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    cluster = build(loads(with_events(form), "w.yaml", {}), 1).clusters["chat"]
    assert cluster.kv_events == FORMS[form]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_events, "find_spec", lambda name: None)
    assert loads(MINIMAL, "w.yaml", {}), "nobody needs it who does not ask for it"
    with pytest.raises(ConfigError) as refused:
        loads(with_events("auto"), "w.yaml", {})
    (finding,) = str(refused.value).splitlines()
    assert finding == ("w.yaml:5:5: needs the package pyzmq: pip install 'warmpath[kv-events]'")
