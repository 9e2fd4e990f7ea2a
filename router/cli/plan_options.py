"""What the options of ``warmpath plan`` mean: above all, which traffic is planned for."""

import sys
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from router.sim.catalogue import Catalogue
    from router.sim.scenario import Policy
    from router.sim.sizing import Demand

Command = TypeVar("Command", bound=Callable[..., Any])

DRAWN = ("prompt_tokens", "output_tokens", "system_prompt", "turns", "think")
"""Options that describe traffic of nobody's."""

DRAWN_RATE = 4.0
"""Requests a second that are drawn at most; more of them are copies, as of any trace."""

DRAWN_SPAN = 1800.0
"""Seconds that are drawn at least; each seed begins somewhere in them."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_OPTIONS = (
    click.option(
        "--trace", type=_FILE, help="Recorded or described traffic, as `simulate` reads it."
    ),
    click.option(
        *("--log", "logs"),
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help="The router's access log, as `replay` reads it; may be repeated.",
    ),
    click.option("--cluster", help="Which cluster of the log, where there are several."),
    click.option(
        "--rate",
        type=click.FloatRange(0, 100_000, min_open=True),
        help="Requests a second; the trace's or the log's own by default.",
    ),
    click.option(
        "--prompt-tokens",
        metavar="N|MEDIAN:P99",
        help="Drawn traffic: tokens that each request adds to what is shared.",
    ),
    click.option(
        "--output-tokens", metavar="N|MEDIAN:P99", help="Drawn traffic: tokens of an answer."
    ),
    click.option(
        "--system-prompt",
        type=click.IntRange(0, 1_000_000),
        help="Drawn traffic: tokens with which every prompt begins.  [default: 0]",
    ),
    click.option(
        "--turns",
        type=click.FloatRange(1, 1000),
        help="Drawn traffic: requests of a conversation, on average.  [default: 1]",
    ),
    click.option(
        "--think", help="Drawn traffic: from an answer to the next turn, median.  [default: 20s]"
    ),
)


def traffic(command: Command) -> Command:
    """Add the options that say what traffic there is."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def seconds(option: str, text: str) -> float:
    """A duration above 0, in the configuration's words."""
    from router.config.units import Duration

    try:
        value = float(Duration.parse(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"--{option}") from None
    if value <= 0:
        raise click.BadParameter("it is above 0", param_hint=f"--{option}")
    return value


def share(option: str, text: str) -> float:
    """Above 0, at most 1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if isnan(value) or not 0 < value <= 1:
        raise click.BadParameter(
            f"expected a share as 0.99 or 99%, not {text!r}", param_hint=f"--{option}"
        )
    return value


def known(catalogue: "Catalogue", model: str, gpus: Sequence[str]) -> None:
    """Refuse names that no data says anything about."""
    for option, names, there in (
        ("--model", [model], catalogue.models),
        ("--gpu", gpus, catalogue.gpus),
    ):
        for name in names:
            if name not in there:
                raise click.BadParameter(
                    f"{name!r}: the data has {', '.join(sorted(there))}", param_hint=option
                )


def demand(options: dict[str, Any], policy: "Policy", folder: Path) -> "tuple[Demand, str]":
    """What is asked, and what to call it.

    Args:
        folder: where files may be made.

    Raises:
        TraceError: the trace or the log cannot be used.
        ConfigError: the description makes no sense.
    """
    from router.sim.sizing import Demand
    from router.sim.study import Traffic, trace

    path, name = _source(options, folder)
    recorded = trace(path)
    rate = options["rate"] or recorded.rate
    traffic = Traffic(trace=path, rate=rate * options["growth"], duration=options["duration"])
    longest = max(one.prompt + one.answer for one in recorded.requests)
    return Demand(
        traffic=traffic,
        policy=policy,
        block=recorded.block,
        block_bytes=recorded.block_bytes,
        longest=longest,
    ), name


def _source(options: dict[str, Any], folder: Path) -> tuple[Path, str]:
    given = [f"--{name.replace('_', '-')}" for name in DRAWN if options[name] is not None]
    if options["trace"] is not None and options["logs"]:
        raise click.UsageError("--trace and --log are two traffics: give one of them")
    if options["cluster"] is not None and not options["logs"]:
        raise click.UsageError("--cluster is of a log: give --log")
    if options["trace"] is None and not options["logs"]:
        return _drawn(options, folder)
    if given:
        raise click.UsageError(f"{given[0]} describes traffic to draw: not with --trace or --log")
    if options["trace"] is not None:
        return options["trace"], options["trace"].name
    return _logged(options, folder)


def _drawn(options: dict[str, Any], folder: Path) -> tuple[Path, str]:
    missing = [name for name in ("rate", "prompt_tokens", "output_tokens") if not options[name]]
    if missing:
        raise click.UsageError(
            f"without --trace or --log there must be --{missing[0].replace('_', '-')}"
        )
    think = seconds("think", options["think"] or "20s")
    described: dict[str, Any] = {
        "question": _lengths("prompt-tokens", options["prompt_tokens"]),
        "answer": _lengths("output-tokens", options["output_tokens"]),
        "turns": options["turns"] or 1.0,
        "think": {"median": f"{think:g}s", "p99": f"{15 * think:g}s"},
        "rate": min(options["rate"], DRAWN_RATE),
        "span": f"{max(DRAWN_SPAN, 2 * options['duration']):g}s",
    }
    if options["system_prompt"]:
        described["system_prompts"] = [{"tokens": options["system_prompt"]}]
    path = folder / "drawn.yaml"
    path.write_bytes(msgspec.json.encode(described))
    return path, "drawn traffic"


def _lengths(option: str, text: str) -> dict[str, int]:
    from router.cli.simulate_options import numbers

    median, *p99 = numbers(option, text, "N or MEDIAN:P99", 1)
    return {"median": round(median), "p99": round(p99[0] if p99 else median)}


def _logged(options: dict[str, Any], folder: Path) -> tuple[Path, str]:
    from router.cli.replay import of_cluster
    from router.sim.access_log import read
    from router.sim.recording import record

    log = of_cluster(read(options["logs"], sys.stdin.buffer), options["cluster"])
    path = folder / "log.jsonl.gz"
    record(log).write(path)
    return path, f"cluster {log.entries[0].line.cluster} of the log"
