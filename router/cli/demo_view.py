"""What the demo prints: a table of requests that fills as they run, and claims with a verdict."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from router.cli.demo_chat import Turn

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "white", "bright_cyan")
WHY = 25
SNIPPET = 200
WAITING = "[dim]…[/dim]"


class DemoView:
    """Prints for people.

    Args:
        console: where to.
        names: endpoint address -> name, in order.
    """

    def __init__(self, console: Console, names: dict[str, str]) -> None:
        self.console = console
        self._names = names
        self._colours = dict(zip(names, COLOURS, strict=False))

    def name(self, address: str) -> str:
        """``engine-1`` for an address, in its colour."""
        colour = self._colours.get(address, "white")
        return f"[{colour}]{self._names.get(address, address or '-')}[/{colour}]"

    def heading(self, title: str, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left", style="dim")
        self.console.print(text, style="dim")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}")

    def claim(self, holds: bool, text: str) -> None:
        mark = "[green]✓[/green]" if holds else "[bold red]✗[/bold red]"
        self.console.print(f"  {mark} {text}")

    @contextmanager
    def table(self) -> Iterator[list[Turn]]:
        """A list of turns that is on screen as a table for as long as the block runs."""
        turns: list[Turn] = []
        # On a terminal redrawn as turns progress, elsewhere printed once when they are done.
        with Live(
            get_renderable=lambda: self._table(turns), console=self.console, refresh_per_second=8
        ):
            yield turns
        if not self.console.is_terminal:
            self.console.print()

    def _table(self, turns: Sequence[Turn]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        # Widths for 80 columns; a wider terminal gives the rest to the answers.
        table.add_column("chat·turn", no_wrap=True, width=9)
        table.add_column("replica", no_wrap=True, width=8)
        table.add_column("why", no_wrap=True, width=WHY, overflow="ellipsis")
        table.add_column("1st token", justify="right", no_wrap=True, width=9)
        table.add_column("cached", justify="right", no_wrap=True, width=7)
        table.add_column("answer", no_wrap=True, overflow="ellipsis", ratio=1)
        for turn in turns:
            table.add_row(*self._cells(turn))
        return table

    def _cells(self, turn: Turn) -> tuple[str, ...]:
        who = f"{turn.conversation}·{turn.number}"
        if turn.error is not None:
            failure = f"[bold red]{escape(turn.error)}[/bold red]"
            return who, self.name(turn.endpoint), escape(turn.reason), "-", "-", failure
        cached = WAITING
        if turn.cached_tokens is not None:
            cached = f"{turn.cached_tokens}/{turn.prompt_tokens}"
            if turn.cached_tokens:
                cached = f"[bold green]{cached}[/bold green]"
        return (
            who,
            self.name(turn.endpoint) if turn.endpoint else WAITING,
            escape(turn.reason),
            WAITING if turn.first_token is None else _first_token(turn),
            cached,
            escape(turn.text.replace("\n", " ")[:SNIPPET]),
        )


def _first_token(turn: Turn) -> str:
    """Milliseconds; in brackets where the answer came as a whole."""
    text = f"{1000 * (turn.first_token or 0):.0f} ms"
    return text if turn.streamed else f"({text})"
