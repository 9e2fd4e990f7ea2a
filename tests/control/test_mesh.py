"""Datagrams between the processes of a machine."""

import socket

import pytest

from router.control.mesh import LARGEST, Mesh
from router.core.forecast.notes import Bye, address, notes


@pytest.fixture
def mesh():
    mesh = Mesh(3)
    yield mesh
    mesh.close()


def sit(mesh: Mesh, column: int) -> tuple[int, socket.socket, list[socket.socket], socket.socket]:
    """The origin, the ear, the others' mouths and control's, as a worker has them."""
    seat = mesh.seat(column)
    ends = [socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_DGRAM) for fd in seat.descriptors]
    for end in ends:
        end.setblocking(False)
    return seat.origin, ends[0], ends[1:-1], ends[-1]


def close(*places: tuple[int, socket.socket, list[socket.socket], socket.socket]) -> None:
    for _, ear, mouths, control in places:
        for end in (ear, *mouths, control):
            end.close()


def test_what_a_worker_says_each_of_the_others_hears(mesh):
    one, two, three = (sit(mesh, column) for column in range(3))
    for mouth in (*one[2], one[3]):
        mouth.send(b"hello")
    assert [place[1].recv(LARGEST) for place in (two, three)] == [b"hello"] * 2
    assert mesh.ear.recv(LARGEST) == b"hello"
    with pytest.raises(BlockingIOError):
        one[1].recv(LARGEST)
    close(one, two, three)


def test_control_tells_all_or_one(mesh):
    one, two = sit(mesh, 0), sit(mesh, 1)
    assert mesh.say(b"all") == 0
    assert mesh.say(b"two", to=two[0]) == 0
    assert mesh.say(b"nobody", to=12345) == 0
    assert (one[1].recv(LARGEST), two[1].recv(LARGEST), two[1].recv(LARGEST)) == (
        b"all",
        b"all",
        b"two",
    )
    close(one, two)


def test_who_does_not_listen_misses_what_there_is_no_room_for(mesh):
    place = sit(mesh, 0)
    said = 0
    while not mesh.say(b"x" * 4000):
        said += 1
    assert said >= 40, "far more than net.unix.max_dgram_qlen"
    assert mesh.say(b"x" * 4000) == 1
    assert place[1].recv(LARGEST) == b"x" * 4000, "and nobody waited"
    close(place)


def test_the_others_are_told_of_an_end_after_all_that_was_said(mesh):
    one, two = sit(mesh, 0), sit(mesh, 1)
    one[2][0].send(b"last words")
    mesh.leave(0)
    assert two[1].recv(LARGEST) == b"last words"
    bye = address(two[1].recv(LARGEST))
    assert (bye.machine, bye.origin, notes(bye)) == (mesh.machine, one[0], [Bye()])
    with pytest.raises(BlockingIOError):
        mesh.ear.recv(LARGEST)
    mesh.overheard = True
    mesh.leave(1)
    assert address(mesh.ear.recv(LARGEST)).origin == two[0]
    assert mesh.say(b"anybody?") == 0, "nobody is left"
    close(one, two)


def test_a_successor_is_somebody_new_and_hears_nothing_old(mesh):
    first = sit(mesh, 0)
    mesh.say(b"old")
    close(first)
    second = sit(mesh, 0)
    assert second[0] != first[0]
    with pytest.raises(BlockingIOError):
        second[1].recv(LARGEST)
    mesh.say(b"new")
    assert second[1].recv(LARGEST) == b"new"
    close(second)
