"""`warmpath-engine emulate`: an emulated engine as a process."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
from dataclasses import replace
from typing import Any

import click
import uvloop

from engine.emulator.config import ConfigError, EmulatorConfig
from engine.emulator.faults import Fault, FaultError
from engine.emulator.profiles import PROFILES
from engine.emulator.server import Emulator
from engine.kv_events import KvEventsConfig, KvEventsError
from engine.kv_events.wire import ENCODINGS

TIMING_OPTIONS = {
    "prefill_tokens_per_second": "prefill_tokens_per_second",
    "prefill_quadratic": "prefill_quadratic",
    "decode_step": "decode_step",
    "decode_per_seq": "decode_per_seq",
    "decode_per_kv_token": "decode_per_kv_token",
    "host_blocks": "host_blocks",
    "reload_per_token": "reload_per_token",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "num_gpu_blocks_override": "num_blocks",
    "block_size": "block_size",
    "enable_prefix_caching": "prefix_caching",
    "max_num_queued_reqs": "max_queued",
    "speed": "speed",
}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port; 0 picks a free one.")
@click.option(
    "--served-model-name",
    "models",
    multiple=True,
    default=["emulated"],
    show_default=True,
    help="Model name to serve; repeat for more.",
)
@click.option("--name", default="emulator", show_default=True, help="Sent as x-emulator-name.")
@click.option(
    "--seed", default=0, show_default=True, help="Seed of output lengths and fault rates."
)
@click.option(
    "--profile",
    type=click.Choice(sorted(PROFILES)),
    default="instant",
    show_default=True,
    help="Timing to start from; the options below change single values.",
)
@click.option("--speed", type=float, help="Divide all times by this.")
@click.option("--prefill-tokens-per-second", type=float, help="Prompt tokens per second.")
@click.option(
    "--prefill-quadratic", type=float, help="Seconds per prompt token and token before it."
)
@click.option("--decode-step", type=float, help="Seconds of one engine step.")
@click.option("--decode-per-seq", type=float, help="Seconds added per decoding sequence.")
@click.option(
    "--decode-per-kv-token", type=float, help="Seconds added per token of decoding contexts."
)
@click.option("--max-num-seqs", type=int, help="Sequences in one batch.")
@click.option("--max-num-batched-tokens", type=int, help="Tokens in one step.")
@click.option("--num-gpu-blocks-override", type=int, help="KV-cache blocks.")
@click.option("--block-size", type=int, help="Tokens per KV-cache block.")
@click.option("--host-blocks", type=int, help="Blocks of a slower tier for what is evicted.")
@click.option("--reload-per-token", type=float, help="Seconds per token loaded from there.")
@click.option(
    "--enable-prefix-caching/--no-enable-prefix-caching",
    default=None,
    help="Reuse shared prefixes.",
)
@click.option(
    "--max-num-queued-reqs", type=int, help="Answer 429 beyond this many waiting requests."
)
@click.option("--max-model-len", default=131_072, show_default=True, help="Prompt plus output.")
@click.option(
    "--mean-output-tokens", default=64, show_default=True, help="Used when max_tokens is not given."
)
@click.option("--tokens-per-chunk", default=1, show_default=True, help="Tokens in one SSE event.")
@click.option(
    "--chunk-size", default=0, show_default=True, help="Pad an event's text to this size."
)
@click.option("--early-head", is_flag=True, help="Send a stream's head before its first token.")
@click.option("--api-key", "api_keys", multiple=True, help="Require a bearer token; repeatable.")
@click.option(
    "--legacy-metrics/--no-legacy-metrics", default=True, help="vLLM's metric names of 2024 too."
)
@click.option("--record", default=0, show_default=True, help="Requests to keep for inspection.")
@click.option(
    "--kv-events-config",
    "kv_events",
    default="{}",
    help="""JSON, fields as vLLM's: '{"enable_kv_cache_events": true}' tells what is cached.""",
)
@click.option(
    "--kv-events-encoding",
    type=click.Choice(list(ENCODINGS)),
    default="map",
    show_default=True,
    help="How each event is encoded: map as in recent releases of vLLM, array as in older ones.",
)
@click.option("--fault", "faults", multiple=True, help="Start with this fault, e.g. 'status=503'.")
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Seconds to finish after SIGTERM.",
)
def emulate(profile: str, faults: tuple[str, ...], shutdown_timeout: float, **options: Any) -> None:
    """Serve an engine's HTTP API and metrics from a timing model instead of a GPU."""
    given = {
        field: options[name] for name, field in TIMING_OPTIONS.items() if options[name] is not None
    }
    rest = {name: value for name, value in options.items() if name not in TIMING_OPTIONS}
    if not math.isfinite(shutdown_timeout):
        raise click.UsageError("--shutdown-timeout must be a finite number of seconds")
    try:
        rest["kv_events"] = KvEventsConfig.parse(rest["kv_events"])
        config = EmulatorConfig(timing=replace(PROFILES[profile], **given), **rest)
        start_with = [Fault.parse(text) for text in faults]
    except KvEventsError as error:
        raise click.UsageError(f"--kv-events-config: {error}") from None
    except (ConfigError, FaultError) as error:
        raise click.UsageError(str(error)) from None
    uvloop.run(_serve(config, start_with, shutdown_timeout))


async def _serve(config: EmulatorConfig, faults: list[Fault], shutdown_timeout: float) -> None:
    emulator = Emulator(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await emulator.start()
    except KvEventsError as error:
        raise click.UsageError(f"--kv-events-config: {error}") from None
    except OSError as error:
        raise click.ClickException(f"cannot listen on {emulator.address}: {error}") from None
    for fault in faults:
        emulator.add_fault(fault)
    # What exists now stays: the collector need not look at it again, and rarely at the rest, as
    # finished requests leave no reference cycles behind.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    click.echo(f"{config.name} serves {', '.join(config.models)} on {emulator.url}")
    await stop.wait()
    await emulator.drain(shutdown_timeout)
    await emulator.stop()
