"""Traffic and figures that come with the package; see THIRD_PARTY.md for sources of the traffic."""

from pathlib import Path
from typing import Final

CONVERSATION: Final = Path(__file__).parent / "mooncake_conversation.jsonl.gz"
"""Ten minutes of Mooncake's conversation trace."""

GPUS: Final = Path(__file__).parent / "gpus.yaml"
"""What GPUs can do and cost, for ``warmpath plan``."""
