"""Bodies that admin calls cannot take: told, never a 500."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from router.admin import explain, views_clusters
from router.admin.respond import AdminError

DEEP = b'{"headers": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


def request_with(body: bytes) -> web.Request:
    request = make_mocked_request("PATCH", "/")
    request._read_bytes = body
    return request


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Input data was truncated"),
        (b'{"a": "\xff"}', "the body is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"[]", "the body must be a JSON object"),
        (DEEP, "the body's JSON is nested too deeply"),
    ],
)
async def test_a_change_that_cannot_be_read(body: bytes, message: str) -> None:
    with pytest.raises(AdminError) as caught:
        await views_clusters._object(request_with(body))
    assert caught.value.status == 400
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b'{"model": 5}', "model: Expected `str | null`, got `int`", "model"),
        (b"[]", "Expected `object`, got `array`", None),
        (b"{", "the body is not JSON: Input data was truncated", None),
        (b'{"x": ' + DEEP + b"}", "Object contains unknown field `x`", None),
    ],
)
def test_a_question_that_cannot_be_read(body: bytes, message: str, param: str | None) -> None:
    with pytest.raises(AdminError) as caught:
        explain._question(body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert str(caught.value) == message
