"""Who is measured, and how each is set up: data only, nothing of a peer is imported here."""

from __future__ import annotations

from typing import NamedTuple

BARE, SDK, ANY_LLM, LITELLM, TENSORZERO, OURS = "bare", "openai", "any-llm", "litellm", "tensorzero", "ours"
LIMITED, KEPT, STRICT = "limited", "ledger", "strict"
# Those that run from this tree.
OWN = (OURS, LIMITED, KEPT, STRICT)

# What `import llm_master; QueryLLM()` must not load.
HEAVY = ("openai", "anthropic", "aiohttp", "pydantic", "requests")


class Peer(NamedTuple):
    """
    One client of the benchmark.

    Args:
        title: as the tables show it.
        program: its file in ``clients/``.
        construct: Python that imports it and makes a client; run in a fresh interpreter for the import time.
        versions: distributions whose versions belong to its results.
        setup: how it is used, in one sentence.
    """

    title: str
    program: str
    construct: str
    versions: tuple[str, ...]
    setup: str


PEERS: dict[str, Peer] = {
    BARE: Peer(
        "aiohttp + msgspec, bare",
        "bare.py",
        "import asyncio, aiohttp, msgspec\n"
        "async def make():\n"
        "    async with aiohttp.ClientSession(): pass\n"
        "asyncio.run(make())",
        ("aiohttp", "msgspec"),
        "One `ClientSession` (no limit of connections), the body encoded from a dict, the whole answer decoded into a "
        "typed `Struct`; a stream is split into lines and each event decoded into a `Struct`. No validation, no "
        "deadline of its own, no retry, no record of the attempt.",
    ),
    SDK: Peer(
        "openai SDK",
        "openai_sdk.py",
        'import openai\nopenai.AsyncOpenAI(api_key="sk-bench", base_url="http://127.0.0.1:1/v1")',
        ("openai", "httpx2", "pydantic"),
        "One `AsyncOpenAI`, defaults throughout (it keeps 100 idle connections, so at 1,000 in flight it opens most "
        "of them anew).",
    ),
    ANY_LLM: Peer(
        "any-llm",
        "anyllm.py",
        'from any_llm import AnyLLM\nAnyLLM.create("openai", api_key="sk-bench", api_base="http://127.0.0.1:1/v1")',
        ("any-llm-sdk",),
        'One `AnyLLM.create("openai", ...)` reused for every call, which its documentation recommends; `acompletion`.',
    ),
    LITELLM: Peer(
        "LiteLLM",
        "lite_llm.py",
        'import os\nos.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"\nimport litellm',
        ("litellm", "httpx"),
        "`litellm.acompletion`, whose client cache reuses one client; log level ERROR, debug information and "
        "telemetry off, the local price table, no limit of connections. It makes its client at the first call, so "
        "its import time holds none. Installed without its pin of certifi (see "
        "`requirements-nodeps.txt`).",
    ),
    TENSORZERO: Peer(
        "TensorZero, embedded",
        "tensor_zero.py",
        'import os\nos.environ["TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS"] = "1"\n'
        "import asyncio, tensorzero\n"
        "async def make(): await tensorzero.AsyncTensorZeroGateway.build_embedded()\n"
        "asyncio.run(make())",
        ("tensorzero",),
        "`AsyncTensorZeroGateway.build_embedded` with a configuration file that names one model on an openai provider "
        "with `api_base` on the loopback; observability and analytics off. The CPU of its Rust threads counts.",
    ),
    OURS: Peer(
        "LLM Master",
        "ours.py",
        "import llm_master\nllm_master.QueryLLM()",
        ("aiohttp", "msgspec"),
        "One `QueryLLM` with a key and a base URL, without a ledger, which the peers do not keep; defaults otherwise.",
    ),
    LIMITED: Peer(
        "LLM Master, limits set",
        "ours_limited.py",
        "import llm_master\nllm_master.QueryLLM()",
        ("aiohttp", "msgspec"),
        "The same with limits of requests, tokens and concurrency on the model, the provider and a tag, none of which "
        "is ever reached; breaker, retry budget and record are active in both.",
    ),
    KEPT: Peer(
        "LLM Master, ledger on",
        "ours_ledger.py",
        "import llm_master\nllm_master.QueryLLM()",
        ("aiohttp", "msgspec", "genai-prices"),
        "The same with the relaxed ledger: every call and attempt is priced and committed to SQLite within 100 ms; the "
        "CPU of the writing thread counts.",
    ),
    STRICT: Peer(
        "LLM Master, strict ledger",
        "ours_strict.py",
        "import llm_master\nllm_master.QueryLLM()",
        ("aiohttp", "msgspec", "genai-prices"),
        "The same with the strict ledger: an answer is given when its rows are on the disk.",
    ),
}
