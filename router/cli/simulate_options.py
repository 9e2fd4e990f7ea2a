"""What the options of ``warmpath simulate`` mean; those that other commands have, too."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from router.sim.incident import Incident
    from router.sim.profile import Profile

Command = TypeVar("Command", bound=Callable[..., Any])

config = click.option(
    *("-c", "--config"),
    type=click.Path(exists=True, path_type=Path),
    help="Take limits, queue, retries and, without --policy, the balancer from a configuration.",
)
plot = click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw TTFT, its spread and its course, to this .svg or .png (extra `plot`).",
)
jobs = click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores by default."
)


profile = click.option(
    "--profile",
    default="hbm",
    show_default=True,
    metavar="hbm|off|GPU/MODEL[/PRECISION]",
    help="The engines: an H100 with an 8B model, with memory of the host behind the cache (off) or "
    "without (hbm); or as `plan` knows them: h200/llama-3.1-8b/fp8.",
)


def seeds(default: int) -> Callable[[Command], Command]:
    """``--seeds``."""
    return click.option(
        "--seeds",
        type=click.IntRange(1, 100),
        default=default,
        show_default=True,
        help="How many runs.",
    )


def policies(text: str) -> Callable[[Command], Command]:
    """``--policy``, with this help."""
    return click.option(
        *("--policy", "policies"), multiple=True, metavar="NAME[:FIELD=VALUE,...]", help=text
    )


def numbers(option: str, text: str, form: str, least: int) -> list[float]:
    """The parts of ``A:B:C``; none of them is negative.

    Args:
        form: how it is written, for people.
        least: parts that must be there.
    """
    parts = text.split(":")
    try:
        found = [float(part) for part in parts]
    except ValueError:
        found = []
    most = form.count(":") + 1
    if not least <= len(found) <= most or any(not 0 <= number < 1e6 for number in found):
        raise click.BadParameter(f"expected {form}, not {text!r}", param_hint=f"--{option}")
    return found


def rate(load: str, trace: str, regime: str, replicas: int) -> float:
    """Requests a second."""
    from router.sim.capacity import capacity

    try:
        value = float(load.removesuffix("%"))
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise click.BadParameter(
            f"expected a share as 85% or a rate as 9.5, not {load!r}", param_hint="--load"
        )
    if not load.endswith("%"):
        return value
    try:
        return value / 100 * capacity(trace, regime, replicas)
    except KeyError:
        raise click.BadParameter(
            f"nobody has measured what {regime} engines can bear of {trace!r}: "
            "give requests a second",
            param_hint="--load",
        ) from None


def engine(text: str) -> "Profile":
    """The engine that ``--profile`` names."""
    from router.sim.catalogue import PRECISIONS, Unfit, load, offer
    from router.sim.profile import REGIMES

    if text in REGIMES:
        return REGIMES[text]
    gpu, *rest = text.split("/")
    model, precision = (*rest, "bf16")[:2] if 1 <= len(rest) <= 2 else ("", "")
    if precision not in PRECISIONS:
        raise click.BadParameter(
            f"expected {', '.join(REGIMES)} or GPU/MODEL[/PRECISION] as h200/llama-3.1-8b/fp8, "
            f"not {text!r}",
            param_hint="--profile",
        )
    try:
        return offer(load(), gpu, model, precision).profile
    except Unfit as why:
        raise click.BadParameter(str(why), param_hint="--profile") from None


def fleet(base: "Profile", replicas: int, slow: str | None) -> "tuple[Profile, ...]":
    """The replicas, those that are slower at the end."""
    if slow is None:
        return (base,) * replicas
    form = "COUNT:SPEED[:CACHE]"
    count, speed, *cache = numbers("slow", slow, form, 2)
    slower = whole("slow", count, replicas + 1, f"{replicas} replicas")
    try:
        profile = base.scaled(speed, cache[0] if cache else 1.0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--slow") from None
    return (base,) * (replicas - slower) + (profile,) * slower


def whole(option: str, number: float, bound: int, words: str) -> int:
    """A whole number below ``bound``."""
    if number != int(number) or number >= bound:
        raise click.BadParameter(f"{number:g}: there are {words}", param_hint=f"--{option}")
    return int(number)


def incidents(
    fails: Sequence[str],
    drains: Sequence[str],
    joins: Sequence[str],
    replicas: int,
    duration: float,
) -> "tuple[Incident, ...]":
    """Those asked for."""
    from router.sim.incident import Drain, Fail, Incident, Join

    there = f"replicas 0 to {replicas - 1}"
    found: list[Incident] = []
    for text in fails:
        at, length, *which = numbers("fail", text, "AT:SECONDS[:REPLICA]", 2)
        found.append(Fail(at, length, whole("fail", which[0] if which else 0, replicas, there)))
    for text in drains:
        at, *which = numbers("drain", text, "AT[:REPLICA]", 1)
        found.append(Drain(at, whole("drain", which[0] if which else 0, replicas, there)))
    for text in joins:
        at, *more = numbers("join", text, "AT[:REPLICAS]", 1)
        found.append(Join(at, whole("join", more[0] if more else 1, 1025, "at most 1024")))
    for incident in found:
        if incident.at >= duration:
            raise click.UsageError(f"at {incident.at:g} s the run of {duration:g} s is over")
    return tuple(found)


def check_plot(path: Path) -> None:
    """Before the work is done: a picture of this name can be drawn."""
    import importlib.util

    from router.sim.plot import SUFFIXES

    if path.suffix not in SUFFIXES:
        raise click.BadParameter(
            f"expected a name that ends in {' or '.join(SUFFIXES)}, not {path.name!r}",
            param_hint="--plot",
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'warmpath[plot]'")
