"""The command line: vLLM's spellings are understood, nothing is accepted and then ignored."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from engine.args import OPTIONS, ServeArgs
from engine.cli import main
from engine.server.command import _Prepared
from engine.server.lifecycle import bind
from engine.vllm_flags import FIXED, REFUSED, SHORT_NAMES
from tests.engine.server.serving import parse

UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    ("", {"model": None, "host": "0.0.0.0", "port": 8000, "enable_prefix_caching": True}),
    ("m --port 1", {"model": "m", "port": 1}),
    ("--model m --max_num_seqs=4", {"model": "m", "max_num_seqs": 4}),
    ("m --served-model-name a b --port 9", {"served_model_name": ("a", "b"), "port": 9}),
    ("--api-key k1 k2 --api-key k3", {"api_key": ("k1", "k2", "k3")}),
    ("--max-model-len 4k", {"max_model_len": 4000}),
    ("--max-model-len 4K", {"max_model_len": 4096}),
    ("--max-model-len 1.5k", {"max_model_len": 1500}),
    ("--max-model-len auto", {"max_model_len": None}),
    ("--kv-cache-memory-bytes 2G", {"kv_cache_memory_bytes": 2**31}),
    ("--no-enable-prefix-caching", {"enable_prefix_caching": False}),
    ("--dtype float", {"dtype": "float32"}),
    (
        '--override-generation-config {"temperature":0}',
        {"override_generation_config": {"temperature": 0}},
    ),
    ("--seed -5", {"seed": -5}),
    # What the engine does anyway may be said.
    ("-tp 1 --enforce-eager --kv-cache-dtype=auto --disable-log-requests", {"port": 8000}),
]

REFUSALS: list[tuple[str, str]] = [
    ("--max-num-seq 3", "Did you mean --max-num-seqs?"),
    ("--frobnicate", "No such flag: --frobnicate."),
    ("-tp 2", "--tensor-parallel-size 2 is not supported, only 1"),
    ("--tensor-parallel-size", "--tensor-parallel-size (no value) is not supported"),
    ("--enable-lora", "merge the adapter"),
    ("--no-enable-sleep-mode", "--no-enable-sleep-mode is a vLLM flag that is not supported"),
    ("-O3", "--optimization-level is a vLLM flag"),
    ("--gpu-memory-utilization 0.9", "--kv-cache-memory-bytes"),
    ("--speculative-config.method ngram", "dotted flags are not supported"),
    ("--override-generation-config.temperature 0", "give --override-generation-config one JSON"),
    ("--override-generation-config [1]", "must be a JSON object"),
    ("--override-generation-config {", "not valid JSON"),
    ("--enable-prefix-caching=false", "is a switch and takes no value"),
    ("--enable-chunked-prefill True", "is a switch and takes no value"),
    ("--port", "--port needs a value"),
    ("--port 70000", "70000"),
    ("--max-model-len 1.5K", "decimals"),
    ("--max-model-len many", "is not an integer"),
    ("--dtype float16", "float16"),
    ("m --model n", "given twice"),
    ("m n", "unexpected extra argument"),
]


@pytest.mark.parametrize(("line", "expected"), UNDERSTOOD, ids=[line for line, _ in UNDERSTOOD])
def test_what_is_understood(line: str, expected: dict[str, Any]) -> None:
    args = parse(line.split())
    assert {name: getattr(args, name) for name in expected} == expected


@pytest.mark.parametrize(("line", "message"), REFUSALS, ids=[line for line, _ in REFUSALS])
def test_what_is_refused(line: str, message: str) -> None:
    result = CliRunner().invoke(main, ["serve", *line.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_every_option_reaches_the_arguments_and_has_one_meaning() -> None:
    command: Any = click.Command("serve")
    for option in OPTIONS:
        command = option(command)
    names = {param.name for param in command.params if param.expose_value}
    assert names == (set(ServeArgs.__dataclass_fields__) | {"model_tag"})
    flags = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    assert not flags & (set(REFUSED) | set(FIXED))
    assert set(SHORT_NAMES.values()) <= set(REFUSED) | set(FIXED)


def test_a_config_file_gives_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        "model: from-file\n"
        "port: 9000\n"
        "max_num_seqs: 7\n"
        "served-model-name: [a, b]\n"
        "enable-prefix-caching: false\n"
        "disable-log-stats: true\n"
        "enforce-eager: true\n"
        "override-generation-config: {temperature: 0.5}\n"
    )
    args = parse(["--config", str(file)])
    assert (args.model, args.port, args.max_num_seqs) == ("from-file", 9000, 7)
    assert args.served_model_name == ("a", "b")
    assert (args.enable_prefix_caching, args.disable_log_stats) == (False, True)
    assert args.override_generation_config == {"temperature": 0.5}
    line = ["mine", "--port=1", "--served-model-name", "c", "--enable-prefix-caching"]
    args = parse([*line, "--config", str(file)])
    assert (args.model, args.port, args.served_model_name) == ("mine", 1, ("c",))
    assert (args.enable_prefix_caching, args.max_num_seqs) == (True, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must be a mapping"),
        ("port: [\n", "not valid YAML"),
        ("tensor-parallel-size: 2\n", "only 1"),
        ("max-num-seq: 2\n", "Did you mean --max-num-seqs?"),
        ("port:\n", "port has no value"),
        ("config: other.yaml\n", "cannot name another"),
    ],
)
def test_a_bad_config_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(click.UsageError, match=message.replace("?", r"\?")):
        parse(["--config", str(file)])


def test_a_missing_config_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="No such file"):
        parse(["--config", str(tmp_path / "none.yaml")])


@pytest.mark.parametrize(
    ("argv", "environ", "keys"),
    [
        ([], {"VLLM_API_KEY": "e"}, ("e",)),
        (["--api-key", "k"], {"VLLM_API_KEY": "e"}, ("k",)),
        ([], {}, ()),
    ],
)
def test_keys_come_from_flags_or_environment(
    argv: list[str], environ: dict[str, str], keys: tuple[str, ...]
) -> None:
    assert parse(argv, environ).api_key == keys


def test_what_cannot_be_served_ends_with_two(checkpoint: Path, tmp_path: Path) -> None:
    def message(*argv: str) -> str:
        result = CliRunner().invoke(main, ["serve", *argv])
        assert result.exit_code == 2, result.output
        return " ".join(result.output.split())

    assert "not a folder" in message("org/model")
    assert "no config.json" in message(str(tmp_path))
    assert "--max-model-len" in message(str(checkpoint), "--max-model-len", "100k")
    assert "--block-size" in message(str(checkpoint), "--block-size", "3")
    assert "--generation-config" in message(str(checkpoint), "--generation-config", str(tmp_path))
    assert "--chat-template" in message(str(checkpoint), "--chat-template", "{% for %}")
    assert "tokenizer.json" in message(str(checkpoint), "--tokenizer", str(tmp_path))
    override = "--override-generation-config"
    assert f"{override}: Expected" in message(str(checkpoint), override, '{"temperature": "hot"}')
    assert f"{override}: seed is not known" in message(str(checkpoint), override, '{"seed": 1}')
    assert f"cannot read {tmp_path}" in message(str(checkpoint), "--chat-template", str(tmp_path))
    assert "finite" in message(str(checkpoint), "--shutdown-timeout", "nan")
    assert "--threads" in message(str(checkpoint), "--threads", "100000")
    assert "--max-request-bytes" in message(str(checkpoint), "--max-request-bytes", "0")
    assert "--served-model-name" in message(str(checkpoint), "--served-model-name", "")


def test_an_address_that_cannot_be_had_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--host", "127.0.0.1", "--port", port)
        result = CliRunner().invoke(main, ["serve", str(checkpoint), *flags])
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.output
    path = tmp_path / "absent" / "socket"
    result = CliRunner().invoke(main, ["serve", str(checkpoint), "--uds", str(path)])
    assert result.exit_code == 1
    assert f"cannot listen on {path}: No such file or directory" in result.output


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert path.is_socket()
    with bind("", 0, str(path)) as listener:
        listener.listen()
        with pytest.raises(OSError, match="Address already in use"):
            bind("", 0, str(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    path.unlink()
    path.write_text("not a socket")
    with pytest.raises(OSError, match="Address already in use"):
        bind("", 0, str(path))
    assert path.read_text() == "not a socket"


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ("--dtype float32", "dtype", "float32"),
        ("--load-format dummy", "load_format", "dummy"),
        ("--num-gpu-blocks-override 77", "num_blocks", 77),
        ("--kv-cache-memory-bytes 5m", "kv_cache_memory_bytes", 5_000_000),
        ("--max-model-len 300", "max_model_len", 300),
        ("--block-size 8", "block_size", 8),
        ("--max-num-seqs 3", "max_num_seqs", 3),
        ("--max-num-batched-tokens 99", "max_num_batched_tokens", 99),
        ("--long-prefill-token-threshold 7", "long_prefill_token_threshold", 7),
        ("--no-enable-prefix-caching", "enable_prefix_caching", False),
        ("--no-enable-chunked-prefill", "enable_chunked_prefill", False),
        ("--scheduling-policy priority", "scheduling_policy", "priority"),
        ("--seed 5", "seed", 5),
    ],
)
def test_flags_of_the_engine_reach_it(flags: str, field: str, value: Any) -> None:
    config = _Prepared(parse(flags.split())).engine_config
    assert getattr(config, field) == value
    assert getattr(_Prepared(parse([])).engine_config, field) != value


def test_without_a_model_the_bundled_one_is_served() -> None:
    prepared = _Prepared(parse([]))
    assert prepared.names == ("warmpath-demo",)
    assert prepared.template is not None
    assert prepared.model_config.eos_token_ids


def test_help_needs_neither_torch_nor_a_model() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from engine.cli import main\n"
        "result = CliRunner().invoke(main, ['serve', '--help'])\n"
        "assert result.exit_code == 0 and '--max-num-queued-reqs' in result.output, result.output\n"
        "result = CliRunner().invoke(main, ['--help'])\n"
        "assert 'emulate' in result.output and 'serve' in result.output, result.output\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("missing", ["tokenizers", "torch"])
def test_without_the_engine_extra_the_error_says_how_to_get_it(missing: str) -> None:
    program = (
        "import sys\n"
        f"sys.modules['{missing}'] = None\n"
        "from click.testing import CliRunner\n"
        "from engine.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "result = CliRunner().invoke(main, ['serve', '--port', '0'])\n"
        "assert result.exit_code == 2, result.output\n"
        "assert 'warmpath[engine]' in result.output, result.output\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
