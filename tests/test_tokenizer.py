"""
Tokens counted on this machine: exact where the model's tokenizer is known, and said to be an estimate elsewhere.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import hashlib
import importlib.resources
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import LLMConfig, QueryLLM, tokenizer
from llm_master.catalogue.tokenizers import load_tokenizers
from llm_master.tokenizer import count_here, pieces_of, tokenizer_of

ENCODINGS = ("o200k_base", "cl100k_base")

# tiktoken 0.14.0, tiktoken_ext/openai_public.py: the SHA-256 of the vocabularies that OpenAI publishes.
PUBLISHED = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}

# Text -> tokens in o200k_base and in cl100k_base, counted with tiktoken 0.14.0 on 2026-11-21.
COUNTED = {
    "The quick brown fox jumps over the lazy dog. It's 3 o'clock, isn't it?": (19, 21),
    'def f(x: int) -> int:\n    return {"a": [x ** 2 for _ in range(10)]}  # noqa\n\n\n': (31, 31),
    "Donaudampfschifffahrtsgesellschaftskapitänsmütze größer als 12.345,67 €": (25, 30),
    "お誕生日おめでとう。東京は晴れです。": (15, 19),
    "Съешь же ещё этих мягких французских булок, да выпей чаю.": (19, 36),
    "مرحبا بالعالم، كيف حالك؟": (9, 19),
    "नमस्ते दुनिया": (5, 13),
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 ok 👍🏽": (22, 33),
    "3.14159265358979 1234567890 0xDEADBEEF 2026-11-21T12:00:00Z": (32, 32),
    "  a   b\t\tc \n\n \r\n   d    ": (11, 11),
    "<|endoftext|> <|im_start|>user": (14, 13),
    '{"id":"call_1","function":{"name":"get_weather","arguments":"{\\"city\\":\\"Paris\\"}"}}': (23, 23),
}

# openai-cookbook, How_to_count_tokens_with_tiktoken: texts with their token ids, and messages with the count that the
# API gave for them.
IDS = {
    "antidisestablishmentarianism": (
        [493, 129901, 376, 160388, 21203, 2367],
        [519, 85342, 34500, 479, 8997, 2191],
    ),
    "2 + 2 = 4": ([17, 659, 220, 17, 314, 220, 19], [17, 489, 220, 17, 284, 220, 19]),
    "お誕生日おめでとう": (
        [8930, 9697, 243, 128225, 8930, 17693, 4344, 48669],
        [33334, 45918, 243, 21990, 9080, 33334, 62004, 16556, 78699],
    ),
}
SYSTEM = {"role": "system"}
COOKBOOK: list[dict[str, Any]] = [
    SYSTEM
    | {
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    },
    SYSTEM | {"name": "example_user", "content": "New synergies will help drive top-line growth."},
    SYSTEM | {"name": "example_assistant", "content": "Things working well together will increase revenue."},
    SYSTEM
    | {
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased"
        " leverage.",
    },
    SYSTEM | {"name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
HELLO = [{"role": "user", "content": "Hello there."}]


def counted(messages: list[dict[str, Any]], model: str, **params: Any) -> Any:
    return asyncio.run(count_here(messages, params, model))


def tokens_of(text: str, encoding: str) -> int:
    """Tokens of a text alone: those of a message without what the chat format adds."""
    model = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}[encoding]
    found = counted([{"role": "user", "content": text}], model)
    assert (found.source, found.note) == ("tokenizer", encoding)
    return int(found.tokens) - 3 - 3 - 1


# The tokenizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_vocabulary_is_the_published_one(encoding: str) -> None:
    tokenizer._load(encoding)
    packed = importlib.resources.files("bpe_openai.data").joinpath(f"{encoding}.tiktoken.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == PUBLISHED[encoding]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", IDS)
def test_a_text_has_the_published_ids(encoding: str, text: str) -> None:
    ids = IDS[text][ENCODINGS.index(encoding)]
    found = tokenizer._load(encoding)
    assert found.encode_ordinary(text) == ids
    assert found.decode(ids) == text
    assert tokens_of(text, encoding) == len(ids)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", COUNTED)
def test_a_text_has_as_many_tokens_as_openai_s_own_package_counts(encoding: str, text: str) -> None:
    assert tokens_of(text, encoding) == COUNTED[text][ENCODINGS.index(encoding)]
    found = tokenizer._load(encoding)
    assert found.decode(found.encode_ordinary(text)) == text


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4", 129), ("gpt-3.5-turbo-0125", 129), ("gpt-4o-mini", 124)])
def test_messages_have_as_many_tokens_as_the_api_said(model: str, tokens: int) -> None:
    found = counted(COOKBOOK, model)
    assert (found.tokens, found.source) == (tokens, "tokenizer")


def test_an_embedding_has_the_tokens_of_its_text_alone() -> None:
    assert counted([{"role": "user", "content": "2 + 2 = 4"}], "text-embedding-3-small").tokens == 7


# Which model has which ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-2024-08-06", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5.6-sol", "o200k_base"),
        ("GPT-5", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("openai/gpt-oss-120b", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("ft:gpt-4o-mini:acme", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo:acme", "cl100k_base"),
        ("text-embedding-3-large", "cl100k_base"),
        ("gpt-4.9", None),
        ("gpt-6-sol", None),
        ("gpt-image-1", None),
        ("o1x", None),
        ("o4", None),
        ("claude-sonnet-4-5", None),
        ("llama-3.3-70b-versatile", None),
        ("", None),
    ],
)
def test_which_model_has_which(model: str, encoding: str | None) -> None:
    found = tokenizer_of(model)
    assert (None if found is None else found.encoding) == encoding


def test_every_tokenizer_has_a_source_and_exists() -> None:
    names = [name for entry in load_tokenizers() for name in entry.models]
    assert len(names) == len(set(names)) > 10
    for entry in load_tokenizers():
        assert entry.encoding in PUBLISHED
        assert dt.date.fromisoformat(entry.checked) <= dt.date(2026, 11, 21)
        assert "tiktoken 0.14.0" in entry.source


# What is an estimate, and says so -------------------------------------------------------------------------------------

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.mark.parametrize(
    ("messages", "model", "params", "why"),
    [
        (HELLO, "claude-sonnet-4-5", {}, "no tokenizer is known"),
        (HELLO, "gpt-4o", {"tools": []}, "parameters"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}], "gpt-4o", {}, "media"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "gpt-4o", {}, "tools"),
        (COOKBOOK, "gpt-oss-120b", {}, "parameters"),
        ([{"role": "user", "content": "あ" * 60_000}], "gpt-4o", {}, "in steps"),
    ],
)
def test_what_cannot_be_counted_is_an_estimate_that_says_why(
    messages: list[dict[str, Any]], model: str, params: dict[str, Any], why: str
) -> None:
    found = counted(messages, model, **params)
    assert found.source == "estimate"
    assert why in found.note
    assert found.tokens > 3


def test_without_the_package_it_is_an_estimate_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "_loaded", {})
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    found = counted(HELLO, "gpt-4o")
    assert found.source == "estimate"
    assert "llm-master[tokenizer]" in found.note


def test_an_estimate_is_on_the_high_side() -> None:
    for text, (modern, older) in COUNTED.items():
        estimate = counted([{"role": "user", "content": text}], "some-model")
        assert estimate.source == "estimate"
        assert estimate.tokens >= max(modern, older)


# Long texts -----------------------------------------------------------------------------------------------------------

words = st.text(st.sampled_from("aZ é9.,'\n\t\r-/\u3042\U0001f600"), max_size=80)


@given(st.lists(words, max_size=30), st.integers(5, 60))
def test_the_pieces_of_a_text_have_the_tokens_of_the_whole(parts: list[str], longest: int) -> None:
    text = " the ".join(parts)
    pieces = list(pieces_of(text, longest))
    if pieces[-1] is None:
        return
    assert "".join(piece for piece in pieces if piece is not None) == text
    assert all(0 < len(piece or "") <= longest for piece in pieces[:-1])
    for encoding in ENCODINGS:
        found = tokenizer._load(encoding)
        whole = len(found.encode_ordinary(text))
        assert sum(len(found.encode_ordinary(piece)) for piece in pieces if piece) == whole


def test_a_long_text_is_counted_exactly() -> None:
    text = "The quick brown fox jumps over the lazy dog.\n" * 30_000
    assert len(text) > 1_000_000
    # Ten words, a full stop with the line's end: the same in each line.
    assert tokens_of(text, "o200k_base") == 30_000 * tokens_of(
        "The quick brown fox jumps over the lazy dog.\n", "o200k_base"
    )
    assert max(len(piece or "") for piece in pieces_of(text)) <= tokenizer.LONGEST


# Loading --------------------------------------------------------------------------------------------------------------

ONCE = """
import asyncio, sys, threading
from llm_master import tokenizer
assert "bpe_openai" not in sys.modules, "nothing is loaded before it is needed"
async def main():
    turns = 0
    hello = [{"role": "user", "content": "Hi"}]
    loading = asyncio.gather(*(tokenizer.count_here(hello, {}, "gpt-4o") for _ in range(8)))
    while not loading.done():
        turns += 1
        await asyncio.sleep(0.001)
    found = await loading
    assert {each.tokens for each in found} == {8}, found
    return turns
loads = []
real = tokenizer._load
def watched(encoding):
    assert threading.current_thread() is not threading.main_thread()
    before = set(tokenizer._loaded)
    found = real(encoding)
    loads.append(id(found))
    return found
tokenizer._load = watched
turns = asyncio.run(main())
assert len(loads) == 8 and len(set(loads)) == 1, loads
print(turns)
"""


def test_it_is_loaded_once_and_beside_the_event_loop() -> None:
    done = subprocess.run([sys.executable, "-c", ONCE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    # The loop goes on while the vocabulary is read.
    assert int(done.stdout) >= 5


FORK = """
import os, threading
from llm_master import tokenizer
held = threading.Event()
def load():
    with tokenizer._locks[0]:
        held.set()
        threading.Event().wait()
threading.Thread(target=load, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(0 if tokenizer._count("o200k_base", ["Hi"]) == 1 else 1)
os._exit(os.waitpid(child, 0)[1] != 0)
"""


def test_a_child_counts_although_its_parent_was_loading() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=False, timeout=60)
    assert done.returncode == 0


# Through the client ---------------------------------------------------------------------------------------------------


def test_a_gateway_without_the_endpoint_is_counted_here(fault_server: FaultServer) -> None:
    fault_server.route("/v1/responses/input_tokens", [status(404, {"error": {"message": "no such route"}})])

    async def main() -> Any:
        config = LLMConfig(openai_api_key="sk-0123456789", base_urls={"openai": f"{fault_server.url}/v1"})
        async with QueryLLM(config) as llm:
            return await llm.count_tokens("gpt-4o-mini", "2 + 2 = 4")

    found = asyncio.run(main())
    assert (found.tokens, found.source, found.note, found.model) == (7 + 7, "tokenizer", "o200k_base", "gpt-4o-mini")
    assert len(fault_server.requests) == 1


def test_a_host_without_an_endpoint_is_counted_here() -> None:
    with QueryLLM(LLMConfig(groq_api_key="gsk-0123456789")) as llm:
        found = llm.count_tokens_sync("groq/openai/gpt-oss-120b", "2 + 2 = 4")
        assert (found.tokens, found.source) == (7 + 1 + 3 + 2, "tokenizer")
        assert llm.count_tokens_sync("groq/llama-3.3-70b-versatile", "Hi").source == "estimate"
