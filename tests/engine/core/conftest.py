"""Session-wide oracles: each tiny checkpoint is made once."""

from collections.abc import Callable

import pytest
import torch

from tests.engine.core.oracle import Oracle


@pytest.fixture(scope="session")
def oracles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Oracle]:
    made: dict[str, Oracle] = {}

    def get(name: str) -> Oracle:
        if name not in made:
            torch.set_num_threads(1)
            made[name] = Oracle(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(scope="session")
def llama(oracles: Callable[[str], Oracle]) -> Oracle:
    return oracles("llama")
