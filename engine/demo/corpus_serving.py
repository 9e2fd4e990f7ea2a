"""What the bundled model knows of LLM serving: one definition and one reason per term.

Every entry is (term with its article, other names, definition, why it matters). The definition is
the answer to "What is ...?", the reason is the answer to "Why does it matter?".
"""

from __future__ import annotations

Entry = tuple[str, tuple[str, ...], str, str]

SERVING: tuple[Entry, ...] = (
    (
        "a KV cache",
        ("key value cache", "kv-cache", "key/value cache"),
        "The KV cache keeps the attention keys and values of earlier tokens, so each new token is "
        "cheap.",
        "Without it every new token would compute the whole text before it again.",
    ),
    (
        "prefix caching",
        ("a prefix cache", "automatic prefix caching"),
        "Prefix caching keeps the KV blocks of a prompt's start, so the next request with it "
        "skips that work.",
        "Chat turns repeat the conversation so far, and a warm prefix saves most of the prefill.",
    ),
    (
        "paged attention",
        ("PagedAttention",),
        "Paged attention stores the KV cache in small blocks and finds them through a block table.",
        "Memory is not lost to gaps, and requests can share blocks.",
    ),
    (
        "a block table",
        (),
        "A block table lists, for one request, which KV cache blocks hold its tokens, in order.",
        "Blocks can lie anywhere in memory and still be read in the right order.",
    ),
    (
        "continuous batching",
        ("in-flight batching", "iteration-level batching"),
        "Continuous batching lets requests join and leave the batch at every step of the engine.",
        "No request waits for the slowest one of its batch.",
    ),
    (
        "prefill",
        ("the prefill phase", "prompt processing"),
        "Prefill is the phase that reads the whole prompt at once and fills the KV cache.",
        "It decides how long a user waits for the first token.",
    ),
    (
        "decode",
        ("the decode phase", "decoding"),
        "Decode is the phase that makes the answer, one token per step for each request.",
        "It is bound by memory bandwidth, so batching many requests makes it cheaper.",
    ),
    (
        "chunked prefill",
        (),
        "Chunked prefill cuts a long prompt into pieces and runs them beside the decode steps.",
        "A long prompt no longer stops the answers that are already streaming.",
    ),
    (
        "TTFT",
        ("time to first token", "the time to first token"),
        "TTFT is the time to first token: from sending the request to the first piece of the "
        "answer.",
        "It is the wait that a user feels most.",
    ),
    (
        "ITL",
        ("inter-token latency", "TPOT", "time per output token"),
        "ITL is the inter-token latency: the time between one token of the answer and the next.",
        "It decides whether a streamed answer reads smoothly.",
    ),
    (
        "throughput",
        (),
        "Throughput is how much work is done per second, for example output tokens per second.",
        "More throughput means fewer machines for the same load.",
    ),
    (
        "goodput",
        (),
        "Goodput is the throughput that counts: only the requests that met their latency goals.",
        "Fast answers that come too late are of no use.",
    ),
    (
        "a token",
        ("tokens",),
        "A token is a piece of text, often a short word or a part of one, that the model reads as "
        "one number.",
        "Prompts and answers are measured, and paid for, in tokens.",
    ),
    (
        "a tokenizer",
        ("tokenization",),
        "A tokenizer cuts text into tokens and turns each of them into a number.",
        "The model sees only numbers, never letters.",
    ),
    (
        "a detokenizer",
        ("detokenization",),
        "A detokenizer turns the numbers that the model gives back into text.",
        "When streaming it must hold back half a character until the rest arrives.",
    ),
    (
        "a context window",
        ("context length", "the context length"),
        "The context window is the largest number of tokens, prompt and answer, that a model can "
        "handle.",
        "What does not fit into it is refused or cut off.",
    ),
    (
        "sampling",
        (),
        "Sampling draws the next token at random, by the probabilities that the model gives.",
        "It makes answers varied where greedy decoding always says the same.",
    ),
    (
        "temperature",
        ("sampling temperature",),
        "Temperature scales the model's choices: low is careful and steady, high is varied and "
        "wild.",
        "With temperature 0 the same prompt gives the same answer.",
    ),
    (
        "top-p",
        ("nucleus sampling", "top p"),
        "Top-p keeps only the most likely tokens whose probabilities add up to p, and draws among "
        "them.",
        "It cuts off the long tail of silly tokens.",
    ),
    (
        "top-k",
        ("top k",),
        "Top-k keeps only the k most likely tokens and draws among them.",
        "It is a simple guard against unlikely tokens.",
    ),
    (
        "greedy decoding",
        ("greedy sampling",),
        "Greedy decoding always takes the most likely next token.",
        "Its answers can be repeated, which is good for tests.",
    ),
    (
        "a stop string",
        ("a stop sequence", "stop strings"),
        "A stop string is a text that ends the answer as soon as the model writes it.",
        "It keeps the model from talking on after the answer.",
    ),
    (
        "a logprob",
        ("logprobs", "log probabilities"),
        "A logprob is the logarithm of the probability that the model gave to a token.",
        "Logprobs show how sure the model was.",
    ),
    (
        "streaming",
        ("token streaming",),
        "Streaming sends each token to the client as soon as it is made.",
        "The user reads along instead of waiting for the end.",
    ),
    (
        "SSE",
        ("server-sent events",),
        "SSE means server-sent events: one HTTP answer that carries many small data lines.",
        "It is how chat servers stream their tokens.",
    ),
    (
        "a chat template",
        (),
        "A chat template turns a list of messages into the one text that the model was trained on.",
        "With the wrong template a model answers badly.",
    ),
    (
        "a system prompt",
        ("a system message",),
        "A system prompt is the first message of a chat, in which the operator tells the model "
        "how to behave.",
        "It is the same for many users, so its prefix is worth caching.",
    ),
    (
        "speculative decoding",
        ("speculation",),
        "Speculative decoding guesses several tokens cheaply and lets the big model check them in "
        "one step.",
        "Right guesses make answers faster and never change them.",
    ),
    (
        "a draft model",
        (),
        "A draft model is a small model that guesses tokens for a larger one to check.",
        "The closer it is to the large model, the more guesses are kept.",
    ),
    (
        "quantization",
        ("quantisation",),
        "Quantization stores numbers with fewer bits, for example 8 or 4 instead of 16.",
        "The model needs less memory and reads its weights faster.",
    ),
    (
        "bf16",
        ("bfloat16",),
        "bf16 is a 16-bit number format with the range of a 32-bit float and less precision.",
        "It halves memory and rarely hurts the answers.",
    ),
    (
        "tensor parallelism",
        ("tensor parallel", "TP"),
        "Tensor parallelism splits every layer over several GPUs, which work on each token "
        "together.",
        "It serves models that are too big for one GPU, and shortens each step.",
    ),
    (
        "pipeline parallelism",
        ("pipeline parallel",),
        "Pipeline parallelism gives each GPU some of the layers, and tokens pass from one GPU to "
        "the next.",
        "It needs little traffic between the GPUs.",
    ),
    (
        "data parallelism",
        ("data parallel",),
        "Data parallelism runs several copies of the model, and each copy serves its own requests.",
        "It scales throughput, and a router must spread the load.",
    ),
    (
        "a mixture of experts",
        ("mixture of experts", "MoE"),
        "A mixture of experts is a model in which each token uses only a few of many sub-networks.",
        "It can know much and still be cheap per token.",
    ),
    (
        "preemption",
        (),
        "Preemption pauses a running request and frees its KV blocks when memory runs out.",
        "The paused request is computed again later, so none has to fail.",
    ),
    (
        "a LoRA adapter",
        ("LoRA", "a LoRA"),
        "A LoRA adapter is a small set of extra weights that changes what a model does.",
        "One server can hold many adapters beside a single base model.",
    ),
    (
        "structured output",
        ("guided decoding", "constrained decoding"),
        "Structured output forces the answer to follow a grammar or a JSON schema.",
        "A program can then read the answer safely.",
    ),
    (
        "tool calling",
        ("function calling",),
        "Tool calling lets a model ask the client to run a function and to send back the result.",
        "It lets a model use data that it does not hold.",
    ),
    (
        "an embedding",
        ("embeddings",),
        "An embedding is a list of numbers that stands for the meaning of a text.",
        "Texts with near embeddings mean nearly the same.",
    ),
    (
        "attention",
        ("self-attention",),
        "Attention lets each token look at the earlier tokens and take what it needs from them.",
        "Its cost grows with the length of the text.",
    ),
    (
        "flash attention",
        ("FlashAttention",),
        "Flash attention computes attention in tiles that fit into fast memory.",
        "It never writes the big score matrix, so it is quick and small.",
    ),
    (
        "grouped-query attention",
        ("GQA", "grouped query attention"),
        "Grouped-query attention lets several query heads share one head of keys and values.",
        "The KV cache becomes several times smaller.",
    ),
    (
        "a transformer",
        ("transformers",),
        "A transformer is a neural network made of attention and feed-forward layers.",
        "Nearly all language models today are transformers.",
    ),
    (
        "an LLM",
        ("a large language model", "LLMs"),
        "An LLM is a large language model: a network trained to predict the next token of a text.",
        "By predicting tokens it can chat, explain and write.",
    ),
    (
        "a batch",
        ("batching",),
        "A batch is a group of requests that the engine computes in one step.",
        "The weights are read once for all of them.",
    ),
    (
        "a scheduler",
        ("the engine's scheduler",),
        "A scheduler decides at every step which requests run and how many tokens each one gets.",
        "It trades the first token of some against the next token of others.",
    ),
    (
        "an inference engine",
        ("an LLM engine", "an inference server"),
        "An inference engine loads a model and answers requests with it.",
        "It batches, caches and schedules so that the GPU is never idle.",
    ),
    (
        "disaggregated serving",
        ("prefill-decode disaggregation", "PD disaggregation", "disaggregation"),
        "Disaggregated serving runs prefill and decode on different machines and sends the KV "
        "cache across.",
        "Neither phase then slows the other.",
    ),
    (
        "KV cache offloading",
        ("KV offloading", "cache offloading"),
        "KV cache offloading moves cold KV blocks from the GPU to main memory or disk.",
        "Reading them back is faster than computing them again.",
    ),
    (
        "a KV event",
        ("KV events", "KV cache events"),
        "A KV event tells the router which blocks an engine has stored or removed.",
        "The router then knows where a prefix is warm.",
    ),
    (
        "a cache hit ratio",
        ("the cache hit ratio", "a cache hit rate"),
        "The cache hit ratio is the share of prompt tokens that were found in the cache.",
        "A higher ratio means less prefill work.",
    ),
    (
        "a GPU",
        ("GPUs",),
        "A GPU is a processor with thousands of small cores that is good at matrix arithmetic.",
        "Big language models are too slow without one.",
    ),
    (
        "a checkpoint",
        ("model weights", "a model checkpoint"),
        "A checkpoint is the set of files that holds a model's trained weights.",
        "Mine is only a few megabytes.",
    ),
    (
        "a hallucination",
        ("hallucination", "hallucinations"),
        "A hallucination is an answer that sounds right but is made up.",
        "A model should say so when it does not know.",
    ),
    (
        "a cold start",
        ("cold start", "cold starts"),
        "A cold start is the slow beginning of a new replica: weights to load and caches still "
        "empty.",
        "A router should send it little at first.",
    ),
    (
        "vLLM",
        (),
        "vLLM is an open-source inference engine that made paged attention popular.",
        "Warmpath can route to it and reads its metrics.",
    ),
)
