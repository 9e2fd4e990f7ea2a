"""``warmpath demo``: two engines, a router, real conversations, and what happens to them when a
replica dies or is drained.

Everything runs as it would in production: engines and router are processes of their own with
their own command lines, and the demo is only a client of their HTTP interfaces.
"""

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import click
import msgspec
from rich.console import Console

from router.cli.demo_children import Child, StartFailed, free_port
from router.cli.demo_story import CLUSTER, Stage, Story
from router.cli.demo_view import DemoView

MODEL = "warmpath-demo"


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The command line. A port of 0 is picked free."""

    once: bool
    engines: int
    emulated: bool
    port: int
    admin_port: int


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the story; exit 1 if a claim did not hold.")
@click.option(
    "--engines",
    type=click.IntRange(2, 8),
    default=2,
    show_default=True,
    help="Replicas of the bundled model.",
)
@click.option("--emulated", is_flag=True, help="Emulated engines: no torch, no real answers.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="API port; a free one if not given."
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the admin API and page; a free one if not given.",
)
def demo_command(once: bool, engines: int, emulated: bool, port: int, admin_port: int) -> None:
    """Watch real conversations go through the router to real engines."""
    options = DemoOptions(
        once=once, engines=engines, emulated=emulated, port=port, admin_port=admin_port
    )
    console = Console(highlight=False)
    try:
        failed = asyncio.run(_demo(options, console))
    except StartFailed as error:
        console.print(f"[bold red]error:[/bold red] {error}", markup=True)
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("ended.")
        sys.exit(130 if once else 0)
    sys.exit(1 if failed else 0)


async def _demo(options: DemoOptions, console: Console) -> int:
    """Returns how many claims did not hold."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with _stage(options, console) as stage:
        names = {address: child.name for address, child in stage.engines.items()}
        story = Story(stage, DemoView(console, names))
        await story.run()
        _say_where(stage, console)
        if not options.once:
            console.print("\n[bold]Ctrl-C ends everything.[/bold]")
            await asyncio.Event().wait()
        return story.failed


@asynccontextmanager
async def _stage(options: DemoOptions, console: Console) -> AsyncIterator[Stage]:
    """Engines and router, ready; ended in reverse order whatever happens."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warmpath-demo-")))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        engines = _engines(options, folder)
        url = f"http://127.0.0.1:{options.port or free_port()}"
        admin = f"http://127.0.0.1:{options.admin_port or free_port()}"
        config = folder / "router.yaml"
        config.write_text(_configuration(url, admin, list(engines)))
        serve = ("serve", "--config", str(config))
        router = Child("router", "router.cli.main", serve, f"{admin}/readyz", folder / "router.log")
        kind = "emulated engines" if options.emulated else "engines with the bundled model"
        with console.status(f"starting {options.engines} {kind} and the router ..."):
            for child in engines.values():
                stack.push_async_callback(child.stop)
                await child.start()
            for child in engines.values():
                await child.ready(session)
            # An interrupt, not a drain: nobody is waiting for this router to leave slowly.
            stack.push_async_callback(router.stop, signal.SIGINT)
            await router.start()
            await router.ready(session)
        console.print(f"router {url} -> " + ", ".join(f"{c.name} {a}" for a, c in engines.items()))
        try:
            yield Stage(session, engines, url, admin, MODEL)
        finally:
            with contextlib.suppress(Exception):
                console.print("ending ...", style="dim")


def _engines(options: DemoOptions, folder: Path) -> dict[str, Child]:
    command = ("emulate", "--profile", "cpu-tiny") if options.emulated else ("serve",)
    engines: dict[str, Child] = {}
    for number in range(1, options.engines + 1):
        name, port = f"engine-{number}", free_port()
        address = f"127.0.0.1:{port}"
        # Small blocks, because turns of the story are short and only full blocks are cached.
        arguments = (
            *command,
            *("--block-size", "8"),
            *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", MODEL),
        )
        ready = f"http://{address}/health"
        engines[address] = Child(name, "engine.cli", arguments, ready, folder / f"{name}.log")
    return engines


def _configuration(url: str, admin: str, engines: list[str]) -> str:
    """JSON is YAML too."""
    return json.dumps(
        {
            "version": 1,
            "workers": 1,
            "listeners": [{"name": "api", "address": url.removeprefix("http://")}],
            "admin": {"address": admin.removeprefix("http://")},
            "limits": {"expose_decision": True},
            "access_log": {"path": "off"},
            "clusters": [
                {
                    "name": CLUSTER,
                    "models": [MODEL],
                    "endpoints": engines,
                    # Prompts of a few dozen tokens: the default, which weighs what a cached prefix
                    # saves, would not care where they go. And with a handful of requests a tight
                    # bound would move conversations about.
                    "balancer": {"type": "prefix_hash", "bound": 4.0},
                    # A short story needs quick health checks.
                    "health": {"active": {"interval": "500ms", "timeout": "2s"}},
                }
            ],
            "routes": [{"name": "demo", "match": {"model": MODEL}, "to": CLUSTER}],
        }
    )


def _say_where(stage: Stage, console: Console) -> None:
    body = json.dumps(
        {
            "model": stage.model,
            "messages": [{"role": "user", "content": "What is prefix caching?"}],
        }
    )
    console.print()
    console.print(f"page     [bold]{stage.admin}/[/bold]")
    console.print(f"metrics  {stage.admin}/metrics")
    console.print(f"status   warmpath status --admin {stage.admin}")
    console.print(
        f"talk     curl -i {stage.url}/v1/chat/completions"
        f" -H 'content-type: application/json' -d '{body}'",
        markup=False,
        soft_wrap=True,
    )
