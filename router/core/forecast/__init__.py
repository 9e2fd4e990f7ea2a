"""When an endpoint would give a request its first token: work in line, own prefill, decode load."""
