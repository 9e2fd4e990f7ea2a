"""Addresses that control keeps, and its word to the service manager."""

import socket

import pytest

from router.control.notify import notify
from router.control.sockets import AddressInUse, ReservedAddress, WorkerSockets


def test_the_holder_takes_no_connection_and_workers_share_the_port():
    address = ReservedAddress("127.0.0.1", 0)
    first, second = address.open(), address.open()
    try:
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((address.host, address.port))
        for sock in (first, second):
            sock.listen()
        accepted = 0
        for _ in range(20):
            with socket.create_connection((address.host, address.port), 2):
                for sock in (first, second):
                    try:
                        sock.accept()[0].close()
                        accepted += 1
                    except BlockingIOError:
                        continue
        assert accepted == 20, "every connection reached a worker"
        assert str(address) == f"127.0.0.1:{address.port}"
    finally:
        for sock in (first, second):
            sock.close()
        address.close()


def test_clients_of_a_sole_worker_wait_for_its_successor():
    address = ReservedAddress("127.0.0.1", 0)
    where = (address.host, address.port)
    sockets = WorkerSockets([address], 1)
    try:
        with sockets.lent() as [sock]:
            first = sock.dup()  # as a process inherits it
        first.listen()
        first.close()  # it dies
        with socket.create_connection(where, 2) as client:
            with sockets.lent() as [sock]:
                second = sock.dup()
            second.setblocking(True)
            accepted, _ = second.accept()
            assert accepted.getpeername() == client.getsockname()
            accepted.close()
        sockets.let_go()
        second.close()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(where)
    finally:
        sockets.let_go()
        address.close()


def test_of_several_workers_each_has_a_socket_that_dies_with_it():
    address = ReservedAddress("127.0.0.1", 0)
    sockets = WorkerSockets([address], 2)
    try:
        with sockets.lent() as [sock]:
            first = sock.dup()
        first.listen()
        with socket.create_connection((address.host, address.port), 2):
            pass
        first.close()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((address.host, address.port))
    finally:
        address.close()


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_that_is_listened_on_is_refused(reuse):
    with socket.socket() as taken:
        if reuse:  # another router of this user
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"cannot listen on 127.0.0.1:{port}"):
            ReservedAddress("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "said"), [("203.0.113.7", "cannot listen on"), ("no.such.invalid", "cannot resolve")]
)
def test_an_address_of_somebody_else_is_refused(host, said):
    with pytest.raises(AddressInUse, match=said):
        ReservedAddress(host, 0)


def test_systemd_is_told_where_it_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        assert notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    assert not notify("STOPPING=1"), "nobody listens any more, and that is no error"
