"""Listens to what engines publish of their caches, as vLLM does, over ZeroMQ."""
