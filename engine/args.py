"""The flags of `warmpath-engine serve`: vLLM's names, read strictly.

`normalise` turns what people type for `vllm serve` into what click parses: underscores for dashes,
lists after one flag (`--api-key a b`), a `--config` file of flags (the command line wins), short
names. It also refuses: a flag of vLLM's that does not exist here is named together with what to do
instead, and an unknown flag gets the nearest name. No flag is accepted and then ignored.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import yaml

from engine.vllm_flags import FIXED, REFUSED, SHORT_NAMES

_UNITS: Final = {
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
}


class HumanInt(click.ParamType[int | None]):
    """An integer with vLLM's suffixes: 4k is 4000, 4K is 4096; k m g may carry decimals."""

    name = "int"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value is None or isinstance(value, int):
            return value
        if value in ("auto", "-1") and param is not None and param.name == "max_model_len":
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not an integer (4096, 4k and 4K are understood)", param, ctx)
        number, unit = match.groups()
        if "." in number and (not unit or unit.isupper()):
            self.fail(f"{value!r}: decimals go with k, m and g only", param, ctx)
        return (
            round(float(number) * _UNITS.get(unit, 1))
            if "." in number
            else int(number) * _UNITS.get(unit, 1)
        )


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object on the command line."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            loaded = json.loads(value)
        except ValueError as error:
            self.fail(f"not valid JSON: {error}", param, ctx)
        if not isinstance(loaded, dict):
            self.fail("must be a JSON object", param, ctx)
        return loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArgs:
    """Everything `serve` was told. None means: the engine's or the checkpoint's own default."""

    model: str | None = None
    served_model_name: tuple[str, ...] = ()
    tokenizer: str | None = None
    host: str = "0.0.0.0"
    port: int = 8000
    uds: str | None = None
    api_key: tuple[str, ...] = ()
    dtype: str = "auto"
    load_format: str = "auto"
    max_model_len: int | None = None
    block_size: int | None = None
    num_gpu_blocks_override: int | None = None
    kv_cache_memory_bytes: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    long_prefill_token_threshold: int = 0
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    scheduling_policy: str = "fcfs"
    seed: int = 0
    kv_events_config: Mapping[str, Any] | None = None
    threads: int | None = None
    chat_template: str | None = None
    chat_template_content_format: str = "auto"
    default_chat_template_kwargs: Mapping[str, Any] | None = None
    response_role: str = "assistant"
    generation_config: str = "auto"
    override_generation_config: Mapping[str, Any] | None = None
    enable_prompt_tokens_details: bool = True
    enable_force_include_usage: bool = False
    enable_request_id_headers: bool = False
    enable_tokenizer_info_endpoint: bool = False
    legacy_metrics: bool = True
    disable_log_stats: bool = False
    max_num_queued_reqs: int | None = None
    max_request_bytes: int = 64 * 2**20
    shutdown_timeout: float = 30.0
    uvicorn_log_level: str = "info"
    disable_uvicorn_access_log: bool = False


_AT_LEAST_1 = click.IntRange(min=1)
_Decorator = Callable[[Any], Any]

OPTIONS: Final[tuple[_Decorator, ...]] = (
    click.argument("model_tag", metavar="[MODEL]", required=False),
    click.option(
        "--config",
        expose_value=False,
        help="YAML file of flags (served-model-name: x); the command line wins.",
    ),
    click.option("--model", help="Same as the positional MODEL."),
    click.option("--served-model-name", multiple=True, help="Names to answer to; the first shows."),
    click.option("--tokenizer", help="Folder with tokenizer.json, when not the model's."),
    click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on."),
    click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True),
    click.option("--uds", help="Listen on this Unix socket; --host and --port are not used."),
    click.option("--api-key", multiple=True, help="Keys to accept; also VLLM_API_KEY."),
    click.option(
        "--dtype", type=click.Choice(["auto", "float32", "float", "bfloat16"]), default="auto"
    ),
    click.option(
        "--load-format", type=click.Choice(["auto", "safetensors", "dummy"]), default="auto"
    ),
    click.option("--max-model-len", type=HumanInt(), help="Prompt + output, in tokens; or auto."),
    click.option("--block-size", type=_AT_LEAST_1, help="Tokens per KV block, a power of two."),
    click.option("--num-gpu-blocks-override", type=_AT_LEAST_1, help="KV blocks in the pool."),
    click.option("--kv-cache-memory-bytes", type=HumanInt(), help="Size of the KV pool."),
    click.option("--max-num-seqs", type=_AT_LEAST_1, help="Choices running at once."),
    click.option("--max-num-batched-tokens", type=HumanInt(), help="Tokens per step."),
    click.option(
        "--long-prefill-token-threshold",
        type=click.IntRange(min=0),
        default=0,
        help="Most tokens of one prompt in one step; 0 is no cap.",
    ),
    click.option("--enable-prefix-caching/--no-enable-prefix-caching", default=True),
    click.option("--enable-chunked-prefill/--no-enable-chunked-prefill", default=True),
    click.option("--scheduling-policy", type=click.Choice(["fcfs", "priority"]), default="fcfs"),
    click.option("--seed", type=int, default=0, help="Seed of requests that bring none."),
    click.option(
        "--kv-events-config",
        type=JsonObject(),
        help="""'{"enable_kv_cache_events": true}' tells over ZeroMQ what is cached.""",
    ),
    click.option(
        "--threads",
        # More than any machine has cores would be a crash inside torch.
        type=click.IntRange(1, 1024),
        help="CPU threads of the model; default: torch's.",
    ),
    click.option("--chat-template", help="File with the template, or the template itself."),
    click.option(
        "--chat-template-content-format",
        type=click.Choice(["auto", "string", "openai"]),
        default="auto",
    ),
    click.option("--default-chat-template-kwargs", type=JsonObject()),
    click.option("--response-role", default="assistant", show_default=True),
    click.option(
        "--generation-config",
        default="auto",
        show_default=True,
        help="auto (the checkpoint's), vllm (none), or a folder.",
    ),
    click.option("--override-generation-config", type=JsonObject()),
    click.option("--enable-prompt-tokens-details/--no-enable-prompt-tokens-details", default=True),
    click.option("--enable-force-include-usage/--no-enable-force-include-usage", default=False),
    click.option("--enable-request-id-headers/--no-enable-request-id-headers", default=False),
    click.option(
        "--enable-tokenizer-info-endpoint/--no-enable-tokenizer-info-endpoint", default=False
    ),
    click.option("--legacy-metrics/--no-legacy-metrics", default=True, help="Names of 2024 too."),
    click.option("--disable-log-stats", is_flag=True, help="No periodic line of statistics."),
    click.option("--max-num-queued-reqs", type=_AT_LEAST_1, help="Waiting beyond this gets 429."),
    click.option("--max-request-bytes", type=HumanInt(), default=64 * 2**20, show_default=True),
    click.option(
        "--shutdown-timeout",
        type=click.FloatRange(min=0),
        default=30.0,
        show_default=True,
        help="Seconds that running requests get after SIGTERM.",
    ),
    click.option(
        "--uvicorn-log-level",
        type=click.Choice(["critical", "error", "warning", "info", "debug", "trace"]),
        default="info",
        help="Level of the server's log.",
    ),
    click.option("--disable-uvicorn-access-log", is_flag=True),
)


class ServeCommand(click.Command):
    """`serve` with `normalise` in front of click's own parsing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, normalise(args, self.params))


def serve_args(values: Mapping[str, Any], *, environ: Mapping[str, str]) -> ServeArgs:
    """Build `ServeArgs` from click's values. Raises `click.UsageError`."""
    given = dict(values)
    tag, flag = given.pop("model_tag"), given.pop("model")
    if tag is not None and flag is not None and tag != flag:
        raise click.UsageError(f"MODEL is given twice: {tag!r} and --model {flag!r}")
    keys = given["api_key"] or tuple(key for key in (environ.get("VLLM_API_KEY", ""),) if key)
    if any(not key for key in keys):
        raise click.UsageError("--api-key must not be empty")
    if any(not name for name in given["served_model_name"]):
        raise click.UsageError("--served-model-name must not be empty")
    if given["max_request_bytes"] < 1:
        raise click.UsageError("--max-request-bytes must be at least 1")
    if not math.isfinite(given["shutdown_timeout"]):
        raise click.UsageError("--shutdown-timeout must be a finite number of seconds")
    given["api_key"] = keys
    given["dtype"] = "float32" if given["dtype"] == "float" else given["dtype"]
    return ServeArgs(model=tag if tag is not None else flag, **given)


def normalise(argv: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """Rewrite `argv` for click. Raises `click.UsageError` naming the flag at fault."""
    options = _Options(params)
    tokens = list(_expand(argv, options))
    given = {token.partition("=")[0] if _is_flag(token) else "--model" for token in tokens}
    out: list[str] = []
    for token in tokens:
        if token.startswith("--config="):
            path = token.partition("=")[2]
            out.extend(_expand(_config_flags(path, given, options), options))
        else:
            out.append(token)
    return out


class _Options:
    """Which flags click knows, and how many words each takes."""

    def __init__(self, params: Sequence[click.Parameter]) -> None:
        self.values: set[str] = set()
        self.lists: set[str] = set()
        self.bare: set[str] = {"--help"}
        for param in params:
            if not isinstance(param, click.Option):
                continue
            names = {*param.opts, *param.secondary_opts}
            target = self.bare if param.is_flag else self.lists if param.multiple else self.values
            target |= names

    def all_names(self) -> set[str]:
        return self.values | self.lists | self.bare


def _expand(argv: Sequence[str], options: _Options) -> Iterator[str]:
    """`argv` with one word per click token; refuses what is not ours."""
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if not _is_flag(word):
            yield word
            continue
        name, equals, inline = word.partition("=")
        name = SHORT_NAMES.get(name, name)
        name = name.replace("_", "-") if name.startswith("--") else name
        follows: list[str] = [inline] if equals else []
        if name in options.bare:
            if equals or (at < len(argv) and argv[at].lower() in ("true", "false")):
                value = inline if equals else argv[at]
                raise click.UsageError(f"{name} is a switch and takes no value, got {value!r}")
            yield name
        elif name in options.lists or name in options.values:
            limit = len(argv) if name in options.lists else 1
            while not equals and at < len(argv) and len(follows) < limit:
                if _is_flag(argv[at]):
                    break
                follows.append(argv[at])
                at += 1
            if not follows:
                raise click.UsageError(f"{name} needs a value")
            yield from (f"{name}={value}" for value in follows)
        else:
            if not equals and at < len(argv) and not _is_flag(argv[at]):
                follows = [argv[at]]
            used = _fixed_or_refused(name, follows, options)
            at += 0 if equals else used


def _is_flag(word: str) -> bool:
    return word.startswith("--") or (word[:1] == "-" and word[1:2].isalpha())


def _fixed_or_refused(name: str, follows: Sequence[str], options: _Options) -> int:
    """Number of words used up by a flag with one supported value; raises for every other flag."""
    base = name.partition(".")[0]
    allowed = FIXED.get(name)
    if allowed is not None:
        if "" in allowed:
            return 0
        value = follows[0] if follows else ""
        if value in allowed:
            return 1
        only = " or ".join(sorted(allowed))
        advice = REFUSED.get(name)
        more = f": {advice}" if advice else ""
        raise click.UsageError(
            f"{name} {value or '(no value)'} is not supported, only {only}{more}"
        )
    if base != name and (base in options.all_names() or base in REFUSED):
        raise click.UsageError(
            f"{name}: dotted flags are not supported; give {base} one JSON object"
        )
    positive = "--" + base.removeprefix("--no-") if base.startswith("--no-") else base
    if positive in REFUSED:
        raise click.UsageError(
            f"{name} is a vLLM flag that is not supported here: {REFUSED[positive]}"
        )
    known = sorted(options.all_names() | set(REFUSED) | set(FIXED))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise click.UsageError(f"No such flag: {name}.{hint}")


def _config_flags(path: str, given: set[str], options: _Options) -> list[str]:
    """The flags of a YAML file, less those given on the command line."""
    if not path:
        raise click.UsageError("--config needs a file")
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config {path}: not valid YAML: {error}") from None
    if loaded is None:
        return []
    if not isinstance(loaded, dict):
        raise click.UsageError(f"--config {path}: must be a mapping of flags to values")
    argv: list[str] = []
    for key, value in loaded.items():
        name = "--" + str(key).replace("_", "-").removeprefix("--")
        if name == "--config":
            raise click.UsageError(f"--config {path}: a config file cannot name another one")
        if name in given or (negated(name) in given):
            continue
        argv.extend(_config_words(path, name, value, options))
    return argv


def _config_words(path: str, name: str, value: Any, options: _Options) -> list[str]:
    if isinstance(value, bool):
        if value:
            return [name]
        if negated(name) in options.bare:
            return [negated(name)]
        # False is what a switch without a negative form already is; anything else is an error.
        return [] if name in options.bare else [f"{name}=false"]
    if value is None:
        raise click.UsageError(f"--config {path}: {name[2:]} has no value")
    if isinstance(value, list):
        return [f"{name}={item}" for item in value]
    if isinstance(value, dict):
        return [f"{name}={json.dumps(value)}"]
    return [f"{name}={value}"]


def negated(name: str) -> str:
    """`--x` for `--no-x` and the reverse."""
    return f"--{name[5:]}" if name.startswith("--no-") else f"--no-{name[2:]}"
