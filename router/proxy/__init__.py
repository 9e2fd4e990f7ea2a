"""The data plane: HTTP/1.1 in, HTTP/1.1 out, driven by the core's exchanges."""
