from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.server.checkpoints import write_checkpoint
from tests.engine.server.serving import Running, serving


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def server(checkpoint: Path) -> AsyncIterator[Running]:
    async with serving(checkpoint) as running:
        yield running
