"""An explanation on a screen: the questions in the order in which the router asks them."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click


def show(told: Mapping[str, Any]) -> None:
    """Print an explanation, in its plain form."""
    click.echo(f"view       {told['view']}")
    if (request := told["request"]) is not None:
        click.echo(f"request    {_request(request)}")
    for line in (
        *_routes(told),
        *_faults(told),
        *_fallbacks(told),
        *_mirrors(told),
        *_admission(told),
    ):
        click.echo(line)
    if told["candidates"]:
        _candidates(told)
    for line in (*_changes(told), *_attempts(told), *_hedge(told), *_limits(told), *_error(told)):
        click.echo(line)


def _request(request: Mapping[str, Any]) -> str:
    words = [f"{request['method']} {request['path']}"]
    for name in ("model", "alias", "user", "max_tokens", "tenant"):
        if request[name] is not None:
            words.append(f"{name}={request[name]}")
    if request["priority"] != "normal":
        words.append(f"priority={request['priority']}")
    if request["body_bytes"]:
        words.append(f"about {request['prompt_tokens']} tokens of prompt")
    words.append(f"prefix={request['prefix_hash'] or 'none'}")
    return ", ".join(words)


def _routes(told: Mapping[str, Any]) -> Iterator[str]:
    for route in told["routes"]:
        failed = route["failed"]
        yield f"route      {route['name']}: {'; '.join(failed) if failed else 'matches'}"
    if told["not_looked_at"] and told["route"] is not None:
        yield f"           {told['not_looked_at']} later not looked at"
    for arm in told["arms"]:
        subset = ", ".join(f"{name}={value}" for name, value in arm["subset"].items())
        name = f"{arm['cluster']}[{subset}]" if subset else arm["cluster"]
        drawn = "  <- drawn" if arm["drawn"] and len(told["arms"]) > 1 else ""
        yield f"to         {name} weight {arm['weight']} ({arm['share']:.1%}){drawn}"


def _fallbacks(told: Mapping[str, Any]) -> Iterator[str]:
    for link in told["fallbacks"]:
        subset = ", ".join(f"{name}={value}" for name, value in link["subset"].items())
        name = f"{link['cluster']}[{subset}]" if subset else link["cluster"]
        model = f" as {link['model']}" if link["model"] else ""
        taken = f"  <- taken: {link['taken']}" if link["taken"] else ""
        yield f"fallback   {name}{model}{taken}"


def _mirrors(told: Mapping[str, Any]) -> Iterator[str]:
    for mirror in told["mirrors"]:
        most = mirror["per_minute"]
        bound = f" of {most:g} tokens a minute" if most is not None else " tokens, not bounded"
        share = f"{mirror['cluster']} {mirror['percent']:g}%"
        yield f"mirror     {share}, up to {mirror['cost']}{bound}"


def _faults(told: Mapping[str, Any]) -> Iterator[str]:
    for fault in told["faults"]:
        hit = {True: "  <- drawn", False: "", None: ""}[fault["drawn"]]
        hit = hit if fault["concerned"] else "  (not this request)"
        yield f"fault      {fault['kind']}: {fault['does']} ({fault['percent']:g}%){hit}"


def _admission(told: Mapping[str, Any]) -> Iterator[str]:
    admission = told["admission"]
    if admission is None:
        return
    queue = admission["queue"]
    limits = queue["limits"]
    yield (
        f"admission  {admission['verdict']}: {queue['in_flight']} in flight of "
        f"{limits['max_connections']} (refused from {limits['max_requests']}), "
        f"{queue['waiting']} waiting of {limits['max_pending']}"
    )
    if admission["verdict"] != "admitted":
        wait = queue["predicted_wait"]
        yield (
            f"queue      {queue['places']}, {admission['priority']} priority, place "
            f"{queue['position']}, share of {queue['share_of'] or 'all'}, cost {queue['cost']:g}, "
            f"wait {'unknown' if wait is None else f'{wait:.1f} s'}"
        )
    for limit in admission["limits"]:
        per = f" per {', '.join(limit['per'])}" if limit["per"] else ""
        left = "does not apply"
        if limit["applies"]:
            left = f"{limit['capacity']:g} {limit['unit']}, shared by all routers"
        if limit["remaining"] is not None:
            left = f"{limit['remaining']:.1f} of {limit['capacity']:g} left"
        if limit["applies"] and limit["unit"] == "tokens":
            left += f", needs {limit['needs']:.0f}"
        if not limit["enforce"]:
            left += " (not enforced)"
        yield f"limit      {limit['name']}{per}: {left}"


def _candidates(told: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    balancer = told["balancer"]
    notes = "".join(f", {name}: {value}" for name, value in balancer["notes"].items())
    click.echo(f"balancer   {balancer['type']}{notes}")
    if told["panic"]:
        click.echo("           panic: too few endpoints are healthy, so health is ignored")
    for level in told["levels"]:
        click.echo(f"priority {level['priority']:<2}{_level(level)}")
    if (session := told["session"]) is not None:
        words = session["remembered"] or "no endpoint"
        if not session["known"]:
            words = "the request has none"
        click.echo(f"session    {session['type']} {session['name']}".rstrip() + f": {words}")
    columns = list(dict.fromkeys(n for row in told["candidates"] for n in row["scores"]))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("endpoint", no_wrap=True)
    for column in ("weight", "in flight", "running", "waiting", "kv", "age", *columns):
        table.add_column(column, justify="right")
    table.add_column("removed by")
    picked = told["attempts"][0]["endpoint"] if told["attempts"] else None
    for row in told["candidates"]:
        mark = "  <- picked" if row["endpoint"] == picked else ""
        scores = [_number(row["scores"].get(column)) for column in columns]
        cells = [row["endpoint"], str(row["weight"]), str(row["in_flight"]), *_load(row["load"])]
        cells += [*scores, (row["removed"] or "") + mark]
        table.add_row(*(escape(cell) for cell in cells))
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table)


def _level(level: Mapping[str, Any]) -> str:
    words = f"{level['load']}% of the load, {level['healthy']} of {level['wanted']} healthy"
    if level["healthy"] != level["free"]:
        words += f", {level['healthy'] - level['free']} pushed back"
    if level["panic"]:
        words += ", panic"
    return words + "".join(f", {name} {share:.1%}" for name, share in level["localities"].items())


def _load(load: Mapping[str, Any] | None) -> list[str]:
    if load is None:
        return ["-"] * 4
    usage = "-" if load["kv_usage"] is None else f"{load['kv_usage']:.0%}"
    age = f"{load['age']:.1f}s" + ("" if load["fresh"] else " stale")
    return [str(load["running"]), str(load["waiting"]), usage, age]


def _number(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def _changes(told: Mapping[str, Any]) -> Iterator[str]:
    if (answer := told["answer"]) is not None:
        headers = "".join(f", {line}" for line in answer["headers"])
        yield f"answer     {answer['status']}{headers}"
        if answer["body"]:
            yield f"           {answer['body']}"
    if (changes := told["changes"]) is None:
        return
    for name in ("path", "host", "model"):
        if changes[name] is not None:
            yield f"sent       {name} {changes[name]}"
    for side in ("request", "response"):
        for line in changes[side]:
            yield f"{side:10} {line}"


def _attempts(told: Mapping[str, Any]) -> Iterator[str]:
    for attempt in told["attempts"]:
        first = attempt["attempt"] == 1
        title = "pick      " if first else f"retry {attempt['attempt'] - 1}   "
        wait = f", after up to {attempt['wait']:g}s" if attempt["wait"] else ""
        yield f"{title} {attempt['endpoint']} ({attempt['reason']}{wait})"
    retry = told["retry"]
    if retry is not None and told["attempts"]:
        if not retry["attempts"]:
            yield "retries    off"
        elif not retry["replayable"]:
            yield "retries    none: the body is larger than limits.buffer_body"
        else:
            assumed = f", shown for {retry['assumed']}" if retry["assumed"] else ""
            bound = f"budget {retry['budget_percent']:g}%"
            if retry["max_retries"] is not None:
                bound = f"at most {retry['max_retries']} in the cluster"
            yield (
                f"retries    {retry['attempts']} on {', '.join(retry['on']) or 'nothing'}, "
                f"{bound}{assumed}"
            )
            if retry["refused"]:
                yield f"           then none: {retry['refused']}"


def _hedge(told: Mapping[str, Any]) -> Iterator[str]:
    hedge = told["hedge"]
    if hedge is None:
        return
    if hedge["refused"]:
        yield f"hedge      none: {hedge['refused']}"
        return
    when = []
    if hedge["quantile"] is not None:
        when.append(f"the cluster's p{100 * hedge['quantile']:g} to the first byte")
    if hedge["after"]:
        when.append(f"{hedge['after']:g}s")
    if hedge["on_per_try_timeout"]:
        when.append("a per-try time-out")
    yield (
        f"hedge      {hedge['endpoint']}, after {' or '.join(when)}, at most {hedge['max']}, "
        f"budget {hedge['budget_percent']:g}%"
    )


def _limits(told: Mapping[str, Any]) -> Iterator[str]:
    if told["timeouts"]:
        words = [
            f"{name} {f'{value:g}s' if value else 'none'}"
            for name, value in told["timeouts"].items()
        ]
        retry = told["retry"]
        if retry is not None and retry["per_try_timeout"]:
            words.append(f"per try {retry['per_try_timeout']:g}s")
        if retry is not None and retry["per_try_idle_timeout"]:
            words.append(f"per try idle {retry['per_try_idle_timeout']:g}s")
        yield f"timeouts   {', '.join(words)}"


def _error(told: Mapping[str, Any]) -> Iterator[str]:
    for title, key in (("client gets", "error"), ("if all fail", "exhausted")):
        if (seen := told[key]) is not None:
            wait = f", Retry-After {seen['retry_after']}" if seen["retry_after"] else ""
            code = seen["error"]["code"] or seen["error"]["type"]
            yield f"{title} {seen['status']} {code} ({seen['flag']}){wait}: " + str(
                seen["error"]["message"]
            )
