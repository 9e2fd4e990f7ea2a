"""What an engine's cache holds, as its KV events tell."""
