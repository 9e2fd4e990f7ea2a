"""Flags of `vllm serve` that this engine knows by name but does not implement.

A flag that is accepted and then does nothing is worse than an error, so each of these ends the
program with exit code 2 and says what to do instead. `FIXED` holds the flags whose one supported
value is what the engine does anyway: that value is accepted, any other is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PARALLEL = "one process runs the whole model; put several replicas behind the router instead"
_LORA = "LoRA adapters are not supported; merge the adapter into the checkpoint"
_QUANT = "quantised weights are not supported; use a float32 or bfloat16 checkpoint"
_KV = "the KV cache is kept in the model's dtype, in this process's memory"
_SPEC = "speculative decoding is not supported; leave the flag out"
_STRUCTURED = "structured output is not supported; validate the answers in the client"
_TOOLS = "tool calls are not parsed; leave the flag out and parse the text in the client"
_REASONING = "reasoning text is not split off; leave the flag out"
_MULTIMODAL = "only text models are supported"
_POOLING = "only text generation is supported"
_COMPILE = "there is no compiler stage and no graph capture; leave the flag out"
_GPU_SIZE = "size the cache with --kv-cache-memory-bytes or --num-gpu-blocks-override"
_HUB = "nothing is downloaded; give the folder of a checkpoint on disk as MODEL"
_TLS = "TLS is ended by the router or a proxy in front; leave the flag out"
_CORS = "cross-origin headers are set by the router or a proxy in front; leave the flag out"
_LOGS = "request and output texts are never logged; leave the flag out"
_TRACING = "traces are not exported by the engine; the router records them"
_SCHEDULER = "the scheduler has no such setting; leave the flag out"
_RELEASE = "the setting belongs to vLLM's own runtime; leave the flag out"

_GROUPS: Final[Mapping[str, str]] = {
    _PARALLEL: """
        tensor-parallel-size pipeline-parallel-size data-parallel-size data-parallel-rank
        data-parallel-start-rank data-parallel-size-local data-parallel-address
        data-parallel-rpc-port data-parallel-backend data-parallel-hybrid-lb
        data-parallel-external-lb data-parallel-supervisor-port dp-supervisor-probe-interval-s
        dp-supervisor-probe-timeout-s dp-supervisor-probe-failure-threshold
        enable-expert-parallel enable-eplb eplb-config num-redundant-experts
        eplb-window-size eplb-step-interval eplb-log-balancedness expert-placement-strategy
        all2all-backend enable-dbo dbo-decode-token-threshold dbo-prefill-token-threshold
        distributed-executor-backend distributed-timeout-seconds nnodes node-rank master-addr
        master-port disable-custom-all-reduce decode-context-parallel-size
        prefill-context-parallel-size dcp-kv-cache-interleave-size cp-kv-cache-interleave-size
        api-server-count headless worker-use-ray ray-workers-use-nsight worker-cls
        worker-extension-cls max-parallel-loading-workers numa-bind
        """,
    _LORA: """
        enable-lora lora-modules max-loras max-lora-rank max-cpu-loras lora-dtype
        lora-extra-vocab-size fully-sharded-loras default-mm-loras enable-lora-bias
        long-lora-scaling-factors enable-prompt-adapter max-prompt-adapters
        max-prompt-adapter-token specialize-active-lora
        """,
    _QUANT: "quantization quantization-param-path allow-deprecated-quantization",
    _KV: """
        kv-cache-dtype kv-cache-dtype-skip-layers calculate-kv-scales swap-space cpu-offload-gb
        cpu-offload-params kv-offloading-size kv-offloading-backend kv-transfer-config
        ec-transfer-config kv-sharing-fast-prefill prefix-caching-hash-algo
        mamba-cache-dtype mamba-ssm-cache-dtype mamba-block-size mamba-cache-mode
        enable-mamba-cache-stochastic-rounding weight-transfer-config preemption-mode
        disable-hybrid-kv-cache-manager use-v2-block-manager enable-sleep-mode
        """,
    _SPEC: """
        speculative-config speculative-model num-speculative-tokens
        speculative-draft-tensor-parallel-size speculative-max-model-len
        speculative-disable-by-batch-size ngram-prompt-lookup-max ngram-prompt-lookup-min
        spec-decoding-acceptance-method num-lookahead-slots speculative-model-quantization
        """,
    _STRUCTURED: """
        structured-outputs-config guided-decoding-backend guided-decoding-disable-fallback
        guided-decoding-disable-any-whitespace guided-decoding-disable-additional-properties
        logits-processor-pattern logits-processors
        """,
    _TOOLS: """
        enable-auto-tool-choice tool-call-parser tool-parser-plugin tool-server
        exclude-tools-when-tool-choice-none
        """,
    _REASONING: "reasoning-parser reasoning-parser-plugin enable-reasoning reasoning-config",
    _MULTIMODAL: """
        allowed-local-media-path allowed-media-domains limit-mm-per-prompt media-io-kwargs
        mm-processor-kwargs mm-processor-cache-gb mm-processor-cache-type
        mm-shm-cache-max-object-size-mb mm-encoder-only mm-encoder-tp-mode
        mm-encoder-attn-backend mm-encoder-attn-dtype interleave-mm-strings skip-mm-profiling
        video-pruning-rate language-model-only enable-mm-embeds enable-prompt-embeds
        disable-mm-preprocessor-cache disable-chunked-mm-input
        """,
    _POOLING: "pooler-config override-pooler-config enable-flash-late-interaction",
    _COMPILE: """
        compilation-config optimization-level cudagraph-capture-sizes
        max-cudagraph-capture-size max-seq-len-to-capture attention-config moe-backend
        disable-cascade-attn kernel-config linear-backend
        """,
    _GPU_SIZE: "gpu-memory-utilization gpu-memory-utilisation cache-size-bytes",
    _HUB: """
        download-dir revision code-revision tokenizer-revision hf-config-path hf-overrides
        hf-token use-tqdm-on-load ignore-patterns model-loader-extra-config model-impl
        config-format safetensors-load-strategy pt-load-map-location trust-remote-code
        """,
    _TLS: """
        ssl-keyfile ssl-certfile ssl-ca-certs ssl-cert-reqs ssl-ciphers enable-ssl-refresh
        """,
    _CORS: """
        allowed-origins allowed-methods allowed-headers allow-credentials root-path middleware
        """,
    _LOGS: """
        enable-log-requests enable-log-outputs enable-log-deltas max-log-len log-config-file
        log-error-stack disable-access-log-for-endpoints enable-logging-iteration-details
        kv-cache-metrics kv-cache-metrics-sample enable-mfu-metrics cudagraph-metrics
        """,
    _TRACING: """
        otlp-traces-endpoint collect-detailed-traces show-hidden-metrics-for-version
        enable-layerwise-nvtx-tracing profiler-config
        """,
    _SCHEDULER: """
        max-num-partial-prefills max-long-partial-prefills scheduler-cls stream-interval
        async-scheduling num-scheduler-steps multi-step-stream-outputs scheduler-delay-factor
        scheduler-reserve-full-isl cuda-graph-sizes attention-backend
        """,
    _RELEASE: """
        device task runner convert tokenizer-mode skip-tokenizer-init max-logprobs logprobs-mode
        disable-sliding-window additional-config override-neuron-config
        override-attention-dtype enforce-eager disable-log-requests
        disable-async-output-proc disable-frontend-multiprocessing enable-per-request-metrics
        disable-fastapi-docs enable-offline-docs
        h11-max-incomplete-event-size h11-max-header-count tokens-only
        return-tokens-as-token-ids trust-request-chat-template grpc generation-tokens-only
        fingerprint-mode fingerprint-value io-processor-plugin renderer-num-workers
        tokenizer-pool-size tokenizer-pool-type tokenizer-pool-extra-config
        seed-per-request cohere-is-reasoning-model cohere-format model-class-overrides
        aggregate-engine-logging disable-log-stats-per-engine performance-mode
        prompt-adapter-dtype rope-scaling rope-theta max-context-len-to-capture
        """,
}

REFUSED: Final[Mapping[str, str]] = {
    f"--{name}": advice for advice, names in _GROUPS.items() for name in names.split()
}

# Flags that take no value. In `FIXED`, their presence says what is already so.
_BARE: Final = frozenset({""})

FIXED: Final[Mapping[str, frozenset[str]]] = {
    "--tensor-parallel-size": frozenset({"1"}),
    "--pipeline-parallel-size": frozenset({"1"}),
    "--data-parallel-size": frozenset({"1"}),
    "--api-server-count": frozenset({"1"}),
    "--kv-cache-dtype": frozenset({"auto"}),
    "--quantization": frozenset({"none", "None"}),
    "--device": frozenset({"auto", "cpu"}),
    "--task": frozenset({"auto", "generate"}),
    "--runner": frozenset({"auto", "generate"}),
    "--convert": frozenset({"auto", "none"}),
    "--tokenizer-mode": frozenset({"auto", "hf"}),
    "--logprobs-mode": frozenset({"raw_logprobs"}),
    "--max-num-partial-prefills": frozenset({"1"}),
    "--stream-interval": frozenset({"1"}),
    "--cpu-offload-gb": frozenset({"0"}),
    "--swap-space": frozenset({"0"}),
    "--enforce-eager": _BARE,
    "--enable-server-load-tracking": _BARE,
    "--no-async-scheduling": _BARE,
    "--no-enable-log-requests": _BARE,
    "--disable-log-requests": _BARE,
    "--disable-frontend-multiprocessing": _BARE,
    "--disable-fastapi-docs": _BARE,
}

SHORT_NAMES: Final[Mapping[str, str]] = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dpn": "--data-parallel-rank",
    "-dpr": "--data-parallel-start-rank",
    "-dpl": "--data-parallel-size-local",
    "-dpa": "--data-parallel-address",
    "-dpp": "--data-parallel-rpc-port",
    "-dpb": "--data-parallel-backend",
    "-dph": "--data-parallel-hybrid-lb",
    "-dpe": "--data-parallel-external-lb",
    "-dcp": "--decode-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-ep": "--enable-expert-parallel",
    "-n": "--nnodes",
    "-r": "--node-rank",
    "-asc": "--api-server-count",
    "-q": "--quantization",
    "-sc": "--speculative-config",
    "-cc": "--compilation-config",
    "-ac": "--attention-config",
    "-O": "--optimization-level",
    "-O0": "--optimization-level",
    "-O1": "--optimization-level",
    "-O2": "--optimization-level",
    "-O3": "--optimization-level",
}
