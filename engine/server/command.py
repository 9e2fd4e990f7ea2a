"""`warmpath-engine serve`: from flags to a running server. The only wiring of engine and HTTP.

Whatever can be wrong with the flags or the checkpoint is found before the weights are read, and
ends with exit code 2 and one line that names the flag.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import uvloop

from engine.args import OPTIONS, ServeArgs, ServeCommand, serve_args
from engine.config import ConfigError, EngineConfig, ModelConfig, read_json
from engine.kv_events import KvEventsConfig, KvEventsError, Publisher
from engine.loop import AsyncEngine
from engine.metrics import VllmMetrics
from engine.request import EngineRequest, RequestError, SamplingParams
from engine.server.chat import TemplateError, load_chat_template
from engine.server.lifecycle import Lifecycle, address_of, bind
from engine.server.model import Policy, ServedModel, load_tokenizer
from engine.server.protocol import Defaults, Limits
from engine.server.routes import Service

if TYPE_CHECKING:
    from engine.core import EngineCore

log = logging.getLogger("engine.server")

# What the bundled checkpoint is called when no --served-model-name is given.
BUNDLED_NAME: Final = "warmpath-demo"

_WARM_UP_TOKENS: Final = 64
_WARM_UP_CHOICES: Final = 8

_FLAG_OF: Final = {
    "model": "MODEL",
    "num_blocks": "--num-gpu-blocks-override",
}


class _Prepared:
    """What the flags and the checkpoint say, checked, with no weights read yet."""

    def __init__(self, args: ServeArgs) -> None:
        self.args = args
        self.folder = _folder(args.model)
        self.model_config = ModelConfig.from_dir(self.folder)
        self.engine_config = engine_config(args, self.model_config)
        tokenizer_folder = Path(args.tokenizer) if args.tokenizer else self.folder
        self.tokenizer = load_tokenizer(tokenizer_folder)
        self.tokenizer_config = read_json(
            tokenizer_folder / "tokenizer_config.json", required=False
        )
        self.template = load_chat_template(
            tokenizer_folder,
            args.chat_template,
            content_format=args.chat_template_content_format,
            default_kwargs=args.default_chat_template_kwargs,
        )
        self.defaults = _defaults(args, self.model_config)
        self.kv_events = KvEventsConfig.from_mapping(args.kv_events_config or {})
        if self.kv_events.enabled and not args.enable_prefix_caching:
            raise KvEventsError("KV events need prefix caching, which is switched off")
        self.names = args.served_model_name or (args.model or BUNDLED_NAME,)


def engine_config(args: ServeArgs, model: ModelConfig) -> EngineConfig:
    """The engine's limits from the flags; what was not given keeps the engine's default."""
    wanted: dict[str, Any] = {
        "dtype": args.dtype,
        "load_format": args.load_format,
        "num_blocks": args.num_gpu_blocks_override,
        "kv_cache_memory_bytes": args.kv_cache_memory_bytes,
        "max_model_len": args.max_model_len,
        "block_size": args.block_size,
        "max_num_seqs": args.max_num_seqs,
        "max_num_batched_tokens": args.max_num_batched_tokens,
        "long_prefill_token_threshold": args.long_prefill_token_threshold,
        "enable_prefix_caching": args.enable_prefix_caching,
        "enable_chunked_prefill": args.enable_chunked_prefill,
        "scheduling_policy": args.scheduling_policy,
        "seed": args.seed,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    return EngineConfig(model=model, **given)


def _folder(model: str | None) -> Path:
    if model is None:
        from engine.demo import CHECKPOINT

        return Path(CHECKPOINT)
    folder = Path(model)
    if not folder.is_dir():
        raise ConfigError(
            f"{model} is not a folder; nothing is downloaded, give the folder of a Hugging Face "
            "checkpoint on disk",
            param="model",
        )
    return folder


def _defaults(args: ServeArgs, model: ModelConfig) -> Defaults:
    source = args.generation_config
    if source == "auto":
        config: Mapping[str, Any] = model.generation_config
    elif source == "vllm":
        config = {}
    else:
        path = Path(source) / "generation_config.json"
        if not path.is_file():
            raise ConfigError(f"there is no {path}", param="generation_config")
        config = read_json(path)
    param = "generation_config"
    try:
        defaults = Defaults().updated(config, vocab_size=model.vocab_size)
        param = "override_generation_config"
        given = args.override_generation_config or {}
        return defaults.updated(given, vocab_size=model.vocab_size, strict=True)
    except RequestError as error:
        raise ConfigError(error.message, param=param) from None


def _service(prepared: _Prepared, publisher: Publisher | None = None) -> Service:
    """Load the weights and put everything together; KV events go to `publisher`."""
    import torch

    from engine.core import EngineCore

    args, config = prepared.args, prepared.engine_config
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    core = EngineCore(config, None if publisher is None else publisher.publish)
    warm_up(core, config)
    served = ServedModel(
        names=prepared.names,
        root=args.model or BUNDLED_NAME,
        tokenizer=prepared.tokenizer,
        template=prepared.template,
        limits=Limits(
            vocab_size=config.model.vocab_size,
            max_model_len=core.max_model_len,
            priorities=config.scheduling_policy == "priority",
            force_usage=args.enable_force_include_usage,
        ),
        defaults=prepared.defaults,
        tokenizer_config=prepared.tokenizer_config,
    )
    stats = core.stats()
    metrics = VllmMetrics(
        served.name,
        max_model_len=core.max_model_len,
        legacy=args.legacy_metrics,
        prefix_caching=config.enable_prefix_caching,
        cache_config={
            "block_size": stats.block_size,
            "num_gpu_blocks": stats.num_blocks,
            "enable_prefix_caching": config.enable_prefix_caching,
            "cache_dtype": "auto",
        },
    )
    engine = AsyncEngine(
        core, vocabulary=served.vocabulary, metrics=metrics, max_num_seqs=config.max_num_seqs
    )
    policy = Policy(
        api_keys=args.api_key,
        response_role=args.response_role,
        prompt_tokens_details=args.enable_prompt_tokens_details,
        request_id_headers=args.enable_request_id_headers,
        tokenizer_info=args.enable_tokenizer_info_endpoint,
        max_queued=args.max_num_queued_reqs,
        max_request_bytes=args.max_request_bytes,
    )
    return Service(engine, served, policy, publisher)


def warm_up(core: EngineCore, config: EngineConfig) -> None:
    """Run a small batch once, so that no client pays for what the first steps set up.

    Raises `ConfigError` when the model cannot make a step at all.
    """
    size = min(_WARM_UP_TOKENS, core.max_model_len - 1)
    choices = min(_WARM_UP_CHOICES, config.max_num_seqs)
    tokens = min(4, core.max_model_len - size)
    sampling = SamplingParams(n=choices, max_tokens=tokens, ignore_eos=True, seed=0)
    prompt = [token % config.model.vocab_size for token in range(size)]
    request = EngineRequest(
        request_id="warm-up",
        prompt_token_ids=prompt,
        sampling=sampling,
        arrival=0.0,
    )
    core.add(request)
    while core.has_work():
        if any(output.finish_reason == "error" for output in core.step(time.monotonic())):
            raise ConfigError("the model failed in its first step, see the log", param="model")
    core.reset_prefix_cache()


def run(args: ServeArgs) -> int:
    """Serve until a signal; the exit code. Raises `click.UsageError` for what cannot be served."""
    level = {"trace": "DEBUG"}.get(args.uvicorn_log_level, args.uvicorn_log_level.upper())
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    with _told_in_one_line():
        prepared = _Prepared(args)
    with _listener(args) as listener:
        return _serve_on(listener, prepared)


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    """What is wrong with flags, checkpoint or installation, as `click.UsageError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"`serve` needs the package {error.name}, which is not installed: "
            "pip install 'warmpath[engine]'"
        ) from error
    except ConfigError as error:
        param = error.param or "model"
        flag = _FLAG_OF.get(param, "--" + param.replace("_", "-"))
        raise click.UsageError(f"{flag}: {error.message}") from error
    except TemplateError as error:
        raise click.UsageError(f"--chat-template: {error}") from error
    except KvEventsError as error:
        raise click.UsageError(f"--kv-events-config: {error}") from error
    except (FileNotFoundError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def _listener(args: ServeArgs) -> socket.socket:
    try:
        return bind(args.host, args.port, args.uds)
    except OSError as error:
        where = args.uds or f"{args.host}:{args.port}"
        raise click.ClickException(f"cannot listen on {where}: {error.strerror}") from error


def _serve_on(listener: socket.socket, prepared: _Prepared) -> int:
    args = prepared.args
    publisher = None
    try:
        with _told_in_one_line():
            if prepared.kv_events.enabled:
                publisher = Publisher(prepared.kv_events)
            service = _service(prepared, publisher)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(service, listener, address_of(listener), args))
    finally:
        if publisher is not None:
            publisher.close()
        if args.uds is not None:
            Path(args.uds).unlink(missing_ok=True)


async def _serve(service: Service, listener: socket.socket, where: str, args: ServeArgs) -> int:
    lifecycle = Lifecycle(
        service,
        shutdown_timeout=args.shutdown_timeout,
        log_stats=not args.disable_log_stats,
        access_log=not args.disable_uvicorn_access_log,
    )
    await lifecycle.start(listener)
    log.info("serving %s on %s", ", ".join(service.model.names), where)
    return await lifecycle.run()


@click.command(cls=ServeCommand)
def serve(**values: Any) -> None:
    """Serve a model behind OpenAI's and vLLM's HTTP routes.

    MODEL is the folder of a Hugging Face checkpoint (config.json, safetensors, tokenizer.json);
    without it the bundled demonstration model is served. Flags are named as vLLM's; those of
    vLLM's that do not exist here are refused by name.
    """
    sys.exit(run(serve_args(values, environ=os.environ)))


for _option in OPTIONS:
    serve = _option(serve)
