"""Endpoint files: what may stand in them, and how their changes are seen."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from router.config.discovery import FileDiscovery
from router.config.units import Interval
from router.control.discovery.answer import DiscoveryFailed
from router.control.discovery.changes import Changes
from router.control.discovery.file import FileSource, read_endpoints

LIST = "- 10.0.0.1:8000\n- {address: 10.0.0.2:8000, weight: 3, labels: {version: v2}}\n"


def source(path: Path) -> FileSource:
    return FileSource(FileDiscovery(path=str(path), interval=Interval(0.01)))


def replace(path: Path, text: str) -> None:
    """As careful writers do it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


async def addresses(of: FileSource) -> list[str]:
    return [str(endpoint.address) for endpoint in (await of.next()).endpoints]


async def becomes(of: FileSource, wanted: list[str]) -> None:
    async with asyncio.timeout(10):
        while await addresses(of) != wanted:
            pass


@pytest.mark.parametrize(
    "text",
    [
        LIST,
        "endpoints:\n" + "".join(f"  {line}\n" for line in LIST.splitlines()),
        json.dumps(
            [
                "10.0.0.1:8000",
                {"address": "10.0.0.2:8000", "weight": 3, "labels": {"version": "v2"}},
            ]
        ),
    ],
)
def test_forms(tmp_path, text):
    path = tmp_path / "engines.yaml"
    path.write_text(text)
    first, second = read_endpoints(path)
    assert (str(first.address), first.weight, first.labels) == ("10.0.0.1:8000", 1, {})
    assert (str(second.address), second.weight) == ("10.0.0.2:8000", 3)
    assert second.labels == {"version": "v2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 10.0.0.1:8000\n- 10.0.0.1:8000\n", "e.yaml:2:3: duplicate endpoint '10.0.0.1:8000'"),
        ("- 10.0.0.1:0\n", "e.yaml:1:3: an endpoint's port cannot be 0"),
        ("- 10.0.0.1\n", "e.yaml:1:3: "),
        ("- {address: 10.0.0.1:80, wait: 3}\n", "e.yaml:1:26: unknown field 'wait' (did you mean"),
        ("- {address: 10.0.0.1:80, weight: 0}\n", "e.yaml:1:34: "),
        ("- [\n", "not YAML"),
        ("", "the file is empty"),
        ("engines: []\n", "unknown field 'engines'"),
        ("- '${HOME}:80'\n", "environment variable HOME is not set"),
        (None, "cannot read: No such file or directory"),
    ],
)
async def test_bad_content_is_located(tmp_path, text, said):
    path = tmp_path / "e.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DiscoveryFailed) as failure:
        await source(path).next()
    assert said in str(failure.value)


async def test_an_empty_list_is_an_answer(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("[]")
    assert (await source(path).next()).endpoints == ()


async def test_a_rename_is_seen(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("- a:1\n")
    follows = source(path)
    assert await addresses(follows) == ["a:1"]
    assert await addresses(follows) == ["a:1"], "an answer each interval, changed or not"
    replace(path, "- b:1\n")
    await becomes(follows, ["b:1"])


async def test_an_edit_in_place_with_the_old_modification_time_is_seen(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("- a:1\n")
    before = path.stat()
    follows = source(path)
    await follows.next()
    path.write_text("- b:1\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await becomes(follows, ["b:1"])


async def test_a_configmap_is_followed_through_its_links(tmp_path):
    """As the kubelet does it: e.yaml -> ..data/e.yaml, and ..data is exchanged by a rename."""
    for number, text in enumerate(("- a:1\n", "- b:1\n"), 1):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "e.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "e.yaml"
    path.symlink_to("..data/e.yaml")
    follows = source(path)
    assert await addresses(follows) == ["a:1"]
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await becomes(follows, ["b:1"])


async def test_bad_content_and_absence_are_failures_until_mended(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("- a:1\n")
    follows = source(path)
    await follows.next()

    async def ask_on() -> None:
        async with asyncio.timeout(10):
            while True:
                await follows.next()

    async def fails(said: str) -> None:
        with pytest.raises(DiscoveryFailed) as failure:
            await ask_on()
        assert said in str(failure.value)

    replace(path, "- a\n")
    await fails("e.yaml:1:3")
    await fails("e.yaml:1:3")
    path.unlink()
    await fails("no such file")
    path.write_text("- a:1\n- c:1\n")
    await becomes(follows, ["a:1", "c:1"])


class TestChanges:
    async def test_a_file_that_is_being_written_is_left_alone(self, monkeypatch):
        looks = iter(
            [((name, 0, 0, 0, 0, size),) for name, size in (("e", 1), ("e", 2), ("e", 3), ("e", 3))]
        )
        changes = Changes(list)
        monkeypatch.setattr(changes, "look", lambda: next(looks))
        assert await changes.settled()
        assert next(looks, None) is None, "it looked until two looks in a row were equal"

    async def test_the_marked_and_the_missing_are_no_change(self, tmp_path):
        path = tmp_path / "e.yaml"
        changes = Changes(lambda: [path])
        changes.mark()
        assert not await changes.settled()
        path.write_text("x")
        assert await changes.settled()
        changes.mark()
        assert not await changes.settled()
        path.unlink()
        assert not await changes.settled()
