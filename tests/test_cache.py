"""
The response cache: a key that only equal requests share, and answers that come back as they were or not at all.
"""

from __future__ import annotations

import asyncio
import enum
import math
import os
import random
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master.classes import Attempt, Image, LLMResponse, ToolCall, Usage
from llm_master.errors import ConfigurationError
from llm_master.policy import cache_entry
from llm_master.policy.cache import MemoryStore, RedisStore, ResponseCache, cache_key, is_cacheable
from llm_master.policy.cache_entry import as_cached, copied, decode, encode
from llm_master.redaction import Secret
from llm_master.settings_parts import CacheSettings


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# -- the key ----------------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-2, 2),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, 1.0, "", "1", b"1", b""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.binary(max_size=5),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)),
    max_leaves=8,
)


def canonical(value: Any) -> str:
    """The slow and plain way to tell values apart: types written out, dicts sorted."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    return f"{type(value).__name__}={value!r}"


def shuffled(value: Any, rand: random.Random) -> Any:
    """The same value, its dicts in another order and some of its lists as tuples."""
    if isinstance(value, dict):
        keys = list(value)
        rand.shuffle(keys)
        return {key: shuffled(value[key], rand) for key in keys}
    if isinstance(value, list):
        made = [shuffled(each, rand) for each in value]
        return tuple(made) if rand.random() < 0.5 else made
    return value


@settings(max_examples=300, deadline=None)
@given(values, values, st.randoms(use_true_random=False))
def test_two_requests_share_a_key_only_if_they_are_equal(one: Any, two: Any, rand: random.Random) -> None:
    def key(value: Any) -> str | None:
        return cache_key("id", [{"role": "user", "content": value}], {"stop": value})

    assert key(one) == key(shuffled(one, rand)) is not None
    assert (key(one) == key(two)) is (canonical(one) == canonical(two))


MESSAGES = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]


def test_everything_in_a_request_counts() -> None:
    requests: list[tuple[Any, ...]] = [
        ("id", MESSAGES, {}, None, None, None),
        ("id2", MESSAGES, {}, None, None, None),
        ("id", MESSAGES[::-1], {}, None, None, None),
        ("id", MESSAGES[:1], {}, None, None, None),
        ("id", [], {}, None, None, None),
        *(("id", MESSAGES, {"n": n}, None, None, None) for n in (None, 1, 1.0, True, "1", b"1", [1], {"n": 1})),
        ("id", MESSAGES, {"n": 1, "m": 1}, None, None, None),
        *(("id", MESSAGES, {}, tenant, None, None) for tenant in ("", "a", "b", ("a", "b"), "ab", "a,b")),
        *(("id", MESSAGES, {}, None, h, None) for h in ({"a": "b"}, {"a": "c"}, {"b": "a"}, {"a": "", "b": ""})),
        *(("id", MESSAGES, {}, None, None, more) for more in (False, True, ["a"], {"drop_params": True})),
    ]
    keys = {cache_key(*parts[:4], headers=parts[4], more=parts[5]) for parts in requests}
    assert (len(keys), None in keys) == (len(requests), False)


def test_what_makes_no_difference_does_not_count() -> None:
    key = cache_key("id", MESSAGES, {"a": 1, "b": 2}, ["x", "y"], headers={"X-A": "1", "x-b": "2"})
    assert key == cache_key("id", tuple(MESSAGES), {"b": 2, "a": 1}, ("y", "x", "x"), headers={"X-B": "2", "x-a": "1"})
    assert cache_key("id", [], {}, "x") == cache_key("id", [], {}, ["x"]) != cache_key("id", [], {}, [])
    assert cache_key("id", [], {}, None) == cache_key("id", [], {}, ())


def test_a_key_is_the_same_in_every_process_and_tells_nothing() -> None:
    program = (
        "from llm_master.policy.cache import cache_key\n"
        "print(cache_key('id', [{'role': 'user', 'content': 'sk-secret'}], {'b': 1, 'a': 2}, {'t', 'u', 'v'}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    key = cache_key("id", [{"content": "sk-secret", "role": "user"}], {"a": 2, "b": 1}, {"v", "u", "t"})
    assert found == {key}
    assert len(key or "") == 64
    assert set(key or "") <= set("0123456789abcdef")


class Effort(enum.StrEnum):
    LOW = "low"


class Ratio(float):
    pass


class Whole(int):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Secret("sk-1"), "sk-1"),
        (Effort.LOW, "low"),
        (Ratio(0.5), 0.5),
        (Whole(3), 3),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
    ],
)
def test_a_subclass_counts_as_what_it_is(value: Any, plain: Any) -> None:
    assert cache_key("id", [], {"x": value}) == cache_key("id", [], {"x": plain}) is not None


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [
        print,
        lambda: 1,
        object(),
        LLMResponse,
        LLMResponse("x"),
        {1: "a"},
        {b"a": 1},
        {1, 2},
        2**64,
        -(2**63) - 1,
        "\ud800",
        bytearray(b"x"),
        Decimal(1),
        iter([1]),
        endless(),
        {"a": [{"b": print}]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_single_encoding_is_not_cached(value: Any) -> None:
    assert cache_key("id", [], {"x": value}) is None
    assert cache_key("id", [{"role": "user", "content": value}], {}) is None
    assert cache_key("id", [], {}, more=value) is None


# -- the entry --------------------------------------------------------------------------------------------------------

KEY = "k" * 64


def full_response() -> LLMResponse:
    return LLMResponse(
        content="text",
        model_name="asked",
        usage=Usage(10, 20, cached_tokens=3, reasoning_tokens=4, web_searches=1),
        latency=2.5,
        finish_reason="tool_calls",
        model="served",
        provider="p",
        time_to_first_token=0.5,
        tool_calls=[
            ToolCall("c1", "f", {"x": [1, "é"]}, extra={"signature": "s", "raw": b"\x00"}),
            ToolCall("c2", "g", raw_arguments=""),
        ],
        reasoning="because",
        citations=[{"url": "u", "score": 0.5}, "plain"],
        images=[Image(data=b"\x89PNG", mime_type="image/png"), Image(url="data:image/png;base64,AA==")],
        audio_data=b"RIFF",
        attempts=(Attempt("p", "served", usage=Usage(10, 20)),),
        request_id="req-1",
        dropped=("seed",),
        notes=("odd",),
        opaque={"family": "openai_chat", "payload": {"x": [b"\xff", None, 1.5]}},
        reported_cost=Decimal("0.25"),
        service_tier="default",
        raw_body=b'{"id": 7}',
        parsed={"a": 1},
    )


def test_an_answer_comes_back_as_it_was_and_cost_nothing() -> None:
    response = full_response()
    data = encode(KEY, response)
    assert data is not None
    found = decode(KEY, data, "asked again")
    assert found is not None
    same = {*cache_entry._Entry.__struct_fields__}
    assert {n: getattr(found, n) for n in same} == {n: getattr(response, n) for n in same}
    assert [call.arguments for call in found.tool_calls] == [{"x": [1, "é"]}, {}]
    assert found.raw == {"id": 7}
    assert found.cached
    assert (found.cost, str(found.reported_cost)) == (0, "0")
    # All the rest is about the call and not about the answer.
    rest = {name: getattr(found, name) for name in found.__struct_fields__ if name not in same}
    empty = LLMResponse()
    assert rest == {name: getattr(empty, name) for name in rest} | {
        "model_name": "asked again",
        "cached": True,
        "reported_cost": Decimal(0),
    }


def test_nothing_of_the_call_is_kept() -> None:
    response = full_response()
    response.request_id, response.notes, response.model_name = "only-1", ("only-2",), "only-3"
    response.attempts = (Attempt("only-4", "only-5", key_id="only-6"),)
    assert b"only" not in (encode(KEY, response) or b"only")


def test_a_change_of_the_fields_is_another_version() -> None:
    # Whoever changes the fields changes the version in _HEAD too, and then this test.
    assert cache_entry._HEAD == b"llmm-answer-1\n"
    assert " ".join(cache_entry._Entry.__struct_fields__) == (
        "content usage finish_reason model provider tool_calls reasoning refusal citations images audio_data dropped"
        " opaque service_tier raw_body"
    )


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"{}", b"{}"),
        (b" " * 65_537, None),
        (b" " * 65_536, b" " * 65_536),
        ([{"a": 1}], b'[{"a":1}]'),
        (None, None),
    ],
    ids=["body", "large", "largest", "parsed", "none"],
)
def test_the_providers_own_json_is_kept_if_it_is_small(raw: Any, kept: bytes | None) -> None:
    found = decode(KEY, encode(KEY, LLMResponse("x", raw_body=raw)) or b"")
    assert found is not None
    assert found.raw_body == kept


def test_a_damaged_entry_is_none() -> None:
    data = encode(KEY, full_response())
    assert data is not None
    assert decode(KEY, data) is not None
    for at in range(len(data)):
        assert decode(KEY, data[:at]) is None
        assert decode(KEY, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None
    assert decode(KEY, data + b"x") is None
    assert decode("j" * 64, data) is None
    # One whose digest is right and whose form is another.
    for body in (msgspec.msgpack.encode(["x"]), msgspec.msgpack.encode({"a": 1}), b"\xc1", b""):
        assert decode(KEY, cache_entry._HEAD + cache_entry._digest(KEY, body) + body) is None


def test_what_could_not_come_back_as_it_was_is_not_kept() -> None:
    for field, value in (
        ("opaque", {"a": Decimal(1)}),
        ("opaque", {"a": object()}),
        ("citations", [{1, 2}]),
        ("citations", endless()),
        ("tool_calls", [ToolCall("a", "b", {}, extra={"x": print})]),
        ("content", "\ud800"),
        ("raw_body", {"a": print}),
        ("audio_data", b" " * (16 * 1024 * 1024)),
    ):
        response = full_response()
        setattr(response, field, value)
        assert encode(KEY, response) is None, field


def test_an_answer_that_repeats_a_key_of_the_caller_is_not_kept() -> None:
    key = "plain-word-key"
    for field in ("content", "reasoning", "raw_body"):
        response = full_response()
        value = f"it is {key}!"
        setattr(response, field, value.encode() if field == "raw_body" else value)
        assert encode(KEY, response, ["other-long-key", Secret(key)]) is None, field
        assert encode(KEY, response, ["other-long-key"]) is not None, field
    # The key that a server without keys asks for is an everyday word.
    assert encode(KEY, LLMResponse("none at all"), ["none", ""]) is not None


def test_copies_share_nothing_that_can_change() -> None:
    for copy in (copied, as_cached):
        original, known = full_response(), full_response()
        made = copy(original)
        made.usage.input_tokens = 99
        made.tool_calls[0].arguments["x"].append(2)
        (made.tool_calls[0].extra or {})["new"] = 1
        made.citations[0]["url"] = made.parsed["a"] = "other"
        made.images[0].url = "other"
        (made.opaque or {})["payload"]["x"].clear()
        for attempt in made.attempts:
            attempt.outcome = "other"
        made.tool_calls.clear()
        assert original == known
        empty = LLMResponse()
        copy(empty).citations.append(1)
        assert empty.citations == []


def test_a_copy_for_another_caller_cost_nothing_and_one_for_the_same_is_equal() -> None:
    response = full_response()
    response.pricer = lambda usage: Decimal(usage.input_tokens)
    assert copied(response) == response
    response.reported_cost = None
    made = as_cached(response)
    assert (made.cached, made.cost, made.attempts, made.latency, made.time_to_first_token) == (True, 0, (), 0.0, None)
    assert made.pricer is None
    assert (response.cached, response.cost, len(response.attempts), response.latency) == (False, 10, 1, 2.5)
    assert (made.content, made.usage, made.request_id) == ("text", response.usage, "req-1")


class Stubborn:
    def __deepcopy__(self, memo: Any) -> Any:
        raise ZeroDivisionError


def test_what_cannot_be_copied_is_shared() -> None:
    stubborn = Stubborn()
    assert copied(LLMResponse("x", parsed=stubborn)).parsed is stubborn


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"finish_reason": "tool_calls", "content": "", "tool_calls": [ToolCall("a", "b", {})]}, True),
        *(({"finish_reason": reason}, False) for reason in ("length", "content_filter", "error", "pause", None, "new")),
        *(({"finish_reason": reason}, False) for reason in ("context_window", "refusal")),
        ({"refusal": "I cannot"}, False),
        ({"content": ""}, False),
        ({"content": " \n"}, False),
        ({"content": None}, False),
        ({"content": "", "reasoning": "hm"}, False),
        ({"content": "", "images": [Image(data=b"x")]}, True),
        ({"content": "", "audio_data": b"x"}, True),
        ({"images": [Image(url="data:image/png;base64,AA==")]}, True),
        ({"images": [Image(data=b"x"), Image(url="https://host/soon-gone.png")]}, False),
        ({"images": None, "tool_calls": None}, True),
        ({"tool_calls": [ToolCall("a", "b", raw_arguments='{"x": ')]}, False),
        ({"tool_calls": [ToolCall("a", "b", raw_arguments="[1]")]}, False),
        ({"tool_calls": [ToolCall("a", "b", raw_arguments="ls -l", extra={"type": "custom"})]}, True),
    ],
)
def test_only_whole_answers_are_kept(fields: dict[str, Any], kept: bool) -> None:
    response = LLMResponse(**{"content": "x", **fields})
    assert is_cacheable(response) is kept

    async def main() -> bool:
        store = MemoryStore()
        await ResponseCache(store).put(KEY, response)
        return len(store) == 1

    assert asyncio.run(main()) is kept


# -- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_keeps_answers_for_its_time() -> None:
    async def main() -> None:
        clock = Clock()
        cache = ResponseCache(MemoryStore(clock=clock), ttl=60.0)
        assert await cache.get(KEY) is None
        await cache.put(KEY, full_response())
        clock.now += 59.0
        found = await cache.get(KEY, model_name="m")
        assert found is not None
        assert (found.content, found.model_name, found.cached, found.cost) == ("text", "m", True, 0)
        await cache.put(KEY, found)  # does not live longer for having been read
        clock.now += 1.0
        assert await cache.get(KEY) is None
        await cache.put(KEY, full_response(), secrets=["because-i-say"])
        assert await cache.get(KEY) is not None
        await cache.aclose()
        assert await cache.get(KEY) is None
        await cache.put(KEY, LLMResponse("a secret-key-1"), secrets=["secret-key-1"])
        assert await cache.get(KEY) is None

    asyncio.run(main())


@pytest.mark.parametrize("ttl", [None, math.inf])
def test_without_a_time_answers_stay(ttl: float | None) -> None:
    async def main() -> None:
        clock = Clock()
        cache = ResponseCache(MemoryStore(clock=clock), ttl)
        await cache.put(KEY, LLMResponse("x"))
        clock.now += 1e12
        assert await cache.get(KEY) is not None
        assert cache.ttl is None

    asyncio.run(main())


@pytest.mark.parametrize("ttl", [0, -1.0, math.nan])
def test_a_time_that_keeps_nothing_is_a_mistake(ttl: float) -> None:
    with pytest.raises(ConfigurationError, match=r"ttl=.*above 0"):
        ResponseCache(MemoryStore(), ttl)


def test_a_cache_is_made_from_settings(tmp_path: Path) -> None:
    async def kept(cache: ResponseCache) -> list[bool]:
        for number in range(3):
            await cache.put(f"{number}", LLMResponse("x"))
        found = [await cache.get(f"{number}") is not None for number in range(3)]
        await cache.aclose()
        return found

    path = str(tmp_path / "answers.sqlite")
    for options in ({"kind": "memory"}, {"kind": "sqlite", "path": path}):
        cache = ResponseCache.of(CacheSettings(ttl=5.0, max_entries=2, **options), {})
        assert cache.ttl == 5.0
        assert asyncio.run(kept(cache)) == [False, True, True]
    shared = ResponseCache.of(CacheSettings(kind="redis", redis_url_env="HERE"), {"HERE": "redis://127.0.0.1:1/0"})
    assert isinstance(shared.store, RedisStore)


@pytest.mark.parametrize(
    ("options", "environ", "match"),
    [
        ({"kind": "sqlite"}, {}, "needs path"),
        ({"kind": "redis", "redis_url_env": "HERE"}, {}, "address in HERE"),
        ({"kind": "redis", "redis_url_env": "HERE"}, {"HERE": ""}, "address in HERE"),
        ({"kind": "redis"}, {"HERE": "redis://x"}, "address in redis_url_env"),
        ({"kind": "redis", "redis_url_env": "HERE"}, {"HERE": "http://:secret-1@x"}, "an address such as redis://"),
        ({"kind": "redis", "redis_url_env": "HERE"}, {"HERE": "redis://:secret-1@x:port"}, "an address such as"),
        ({"kind": "dbm"}, {}, "unknown kind of cache 'dbm'"),
    ],
)
def test_settings_that_name_no_store_are_a_mistake(options: Any, environ: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as caught:
        ResponseCache.of(CacheSettings(**options), environ)
    assert "secret-1" not in str(caught.value)


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    program = (
        "import sys\nfrom llm_master.policy.cache import *\nimport llm_master.flights\n"
        "MemoryStore(), SqliteStore('x.sqlite'), RedisStore('redis://127.0.0.1:1')\n"
        "print({'sqlite3', 'redis', 'aiohttp', 'openai'} & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
