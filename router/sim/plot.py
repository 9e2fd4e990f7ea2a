"""A study as a picture: how times to the first token are spread, and how they went over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from router.sim.curves import BUCKET, SHARES, Curves, averaged

SUFFIXES: Final = (".svg", ".png")


def draw(curves: Mapping[str, Sequence[Curves]], title: str, begin: float, path: Path) -> None:
    """Write the picture.

    Args:
        curves: of each policy, of each seed.
        begin: seconds until which the warm-up took.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "warmpath"  # the same picture again for the same runs
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, (spread, timeline) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    for policy, runs in curves.items():
        values = averaged([run.spread for run in runs])
        spread.plot(values, [100 * share for share in SHARES], label=policy)
        means = averaged([run.timeline for run in runs])
        timeline.plot([BUCKET * (index + 0.5) for index in range(len(means))], means)
    spread.set(xscale="log", xlabel="TTFT, s", ylabel="% of requests", ylim=(0, 100))
    spread.legend(fontsize="small")
    timeline.set(yscale="log", xlabel="s", ylabel=f"mean TTFT of {BUCKET:g} s, s")
    timeline.axvspan(0, begin, color="0.93")
    timeline.margins(x=0)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    spread.xaxis.set_major_formatter(plain)
    timeline.yaxis.set_major_formatter(plain)
    timeline.yaxis.set_minor_formatter(plain)
    for axes in (spread, timeline):
        axes.grid(color="0.9")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
