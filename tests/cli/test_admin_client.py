"""Commands that are sent to somebody who is no admin API, and addresses that are none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from router.cli.main import main


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server of one connection; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n{"version":"envoy"}',
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"generation"',
    ],
)
def test_somebody_else_at_the_port_is_told(answer: bytes) -> None:
    with answering(answer) as url:
        result = CliRunner().invoke(main, ["status", "--admin", url])
    assert result.exit_code == 3
    assert result.output == f"error: what answers at {url} is no admin API of Warmpath\n"


@pytest.mark.parametrize("url", ["http://[::1", "http://a:x", "ftp://a", "http://", "a:99999"])
@pytest.mark.parametrize("command", [["status", "--admin"], ["explain", "--model", "m", "--live"]])
def test_an_address_that_is_none_is_wrong_usage(command: list[str], url: str) -> None:
    result = CliRunner().invoke(main, [*command, url])
    assert result.exit_code == 2, result.output
    assert f"Invalid value for {command[-1]}" in result.output.replace("'", "")
