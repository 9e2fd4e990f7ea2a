"""A response head's fields, for the few decisions that look at them."""


def field(lines: bytes, name: str) -> str | None:
    """The value of a field, None if it is absent; several lines are joined with commas.

    Args:
        lines: of the head, each with its CRLF, the status line first.
        name: in lower case.
    """
    wanted = name.encode("latin-1")
    values = [
        value.strip(b" \t").decode("latin-1")
        for key, _, value in (line.partition(b":") for line in lines.split(b"\r\n")[1:])
        if key.lower() == wanted
    ]
    return ",".join(values) if values else None
