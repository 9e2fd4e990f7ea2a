"""Command operators: what is taken apart how, and what is refused by name."""

import pytest

from router.config.log_format import ENVOY, Operator, UnknownFormat, headers, parse


def test_texts_and_operators_are_taken_apart() -> None:
    assert parse("a %DURATION%ms 100%% %REQ(X-A?:PATH):12%") == (
        "a ",
        Operator("DURATION"),
        "ms 100",
        "%",
        " ",
        Operator("REQ", "X-A?:PATH", ("x-a", ":path"), 12),
    )


def test_a_time_may_hold_percent_signs() -> None:
    assert parse("%START_TIME(%Y-%m-%dT%H:%M:%S.%3f)%") == (
        Operator("START_TIME", "%Y-%m-%dT%H:%M:%S.%3f"),
    )


def test_the_headers_that_must_be_kept() -> None:
    request, response = headers(parse(ENVOY + "%RESP(Server)% %REQ(X-A?X-B)%"))
    assert request == (
        *("x-envoy-original-path", "x-forwarded-for", "user-agent", "x-request-id", ":authority"),
        *("x-a", "x-b"),
    )
    assert response == ("server",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("%CONNECTION_ID%", "unknown operator %CONNECTION_ID%; known are PROTOCOL"),
        ("%DYNAMIC_METADATA(a:b)%", "unknown operator"),
        ("%duration%", "no operator at '%duration%'"),
        ("50% of", "no operator at '% of'"),
        ("%REQ(X", "no operator at"),
        ("%DURATION(x)%", "takes no argument"),
        ("%DURATION:3%", "takes no argument"),
        ("%REQ()%", "needs an argument"),
        ("%REQ%", "needs an argument"),
        ("%REQ(a?b?c)%", "at most one alternative"),
        ("%REQ(a b)%", "not a header's name"),
        ("%REQ(:status)%", "known are :authority"),
        ("%RESP(:status)%", "not a header's name"),
        ("%REQ(Authorization)%", "is a secret and is never logged"),
        ("%REQ(X-A?Cookie)%", "is a secret and is never logged"),
        ("%RESP(Set-Cookie)%", "is a secret and is never logged"),
        ("%RECORD(prompt)%", "no such field; there are request_id"),
        ("%START_TIME(%Q)%", "unknown directive %Q"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(UnknownFormat) as caught:
        parse(text)
    assert said in str(caught.value)
