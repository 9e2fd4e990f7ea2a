"""Measurements: what the router costs beside other proxies, and what the engine does."""
