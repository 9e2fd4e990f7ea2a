"""Traffic that comes with the package; see THIRD_PARTY.md for its sources."""

from pathlib import Path
from typing import Final

CONVERSATION: Final = Path(__file__).parent / "mooncake_conversation.jsonl.gz"
"""Ten minutes of Mooncake's conversation trace."""
