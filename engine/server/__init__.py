"""The HTTP face of the engine: OpenAI's and vLLM's routes over `engine.loop`."""
