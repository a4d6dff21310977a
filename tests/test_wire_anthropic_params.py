"""
Parameters of the Messages API: refused, left out, moved into range or translated.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.messages_requests import DIALECT, HI, TOOL, body, dropping, refused, request

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.rows import MessagesDialect
from llm_master.wire import anthropic_messages as family
from llm_master.wire.anthropic_schema import closed

UNSUPPORTED = {
    "n": 2,
    "seed": 1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
    "min_p": 0.1,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 1},
    "modalities": ["text", "audio"],
    "audio": {"voice": "x"},
    "prediction": {"type": "content"},
    "store": True,
    "verbosity": "low",
    "web_search_options": {},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "functions": [],
    "function_call": "auto",
}
NEUTRAL = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "logit_bias": {}, "store": False}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_parameter(name: str) -> None:
    refused("claude-opus-5", name, **{name: UNSUPPORTED[name]})
    found, dropped = dropping("claude-opus-5", **{name: UNSUPPORTED[name]})
    assert dropped == (name,)
    assert found == body("claude-opus-5")


def test_a_parameter_that_asks_for_nothing_is_taken() -> None:
    asked = request("claude-opus-5", **NEUTRAL, seed=None, extra_headers={"a": "b"}, stream_options={"x": 1})
    assert json.loads(family.encode(asked, DIALECT)) == body("claude-opus-5")
    assert asked.dropped == ()


@pytest.mark.parametrize(("value", "moved"), [(1.5, 1.0), (-0.1, 0.0)])
def test_temperature_out_of_range(value: float, moved: float) -> None:
    assert "between 0 and 1" in refused("claude-sonnet-4-5", "temperature", temperature=value)
    found, dropped = dropping("claude-sonnet-4-5", temperature=value)
    assert (found["temperature"], dropped) == (moved, ("temperature",))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"temperature": float("nan")}, "between 0 and 1"),
        ({"temperature": "hot"}, "between 0 and 1"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"thinking_budget": -7}, "thinking_budget"),
        ({"thinking_budget": 1.5}, "thinking_budget"),
        ({"output_config": "high"}, "output_config"),
        ({"stop": [1]}, "stop"),
        ({"tools": ["now"]}, "a dict"),
        ({"tools": [{"type": "function"}]}, "without a name"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "give tools"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "no schema"),
        ({"metadata": {"user_id": object()}}, "JSON"),
    ],
)
def test_bad_values(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        body("claude-sonnet-4-5", **params)
    assert "anthropic" in str(caught.value)
    assert "claude-sonnet-4-5" in str(caught.value)


def test_a_blank_stop_sequence() -> None:
    refused("claude-opus-5", "stop", stop=["\n", "x"])
    found, dropped = dropping("claude-opus-5", stop=["\n", "x"])
    assert (found["stop_sequences"], dropped) == (["x"], ("stop",))
    assert "stop_sequences" not in dropping("claude-opus-5", stop=" ")[0]


def test_a_dialect_of_another_server() -> None:
    dialect = MessagesDialect(drop=frozenset({"top_k"}), defaults={"safe": True, "top_p": 0.5}, clamp={})
    asked = Request("other", "kimi-k3", HI, {"temperature": 1.7, "top_p": 0.9, "reasoning_effort": "medium"})
    assert json.loads(family.encode(asked, dialect)) == {
        "model": "kimi-k3",
        "max_tokens": 8192,
        "messages": HI,
        "thinking": {"type": "enabled", "budget_tokens": 4096},
        "temperature": 1.7,
        "top_p": 0.9,
        "safe": True,
    }
    with pytest.raises(UnsupportedParameterError, match="other model 'kimi-k3' cannot take 'top_k'"):
        family.encode(Request("other", "kimi-k3", HI, {"top_k": 3}), dialect)
    dropped = Request("other", "kimi-k3", HI, {"top_k": 3}, drop_params=True)
    assert "top_k" not in json.loads(family.encode(dropped, dialect))
    assert dropped.dropped == ("top_k",)


def test_rules_of_two_dialects_do_not_mix() -> None:
    strict, loose = MessagesDialect(max_tokens={"": 1}), MessagesDialect(max_tokens={"": 2})
    limits = [json.loads(family.encode(request("m"), each))["max_tokens"] for each in (strict, loose, strict)]
    assert limits == [1, 2, 1]


def test_what_others_left_out_before_stays_listed() -> None:
    asked = request("claude-opus-5", drop=True, seed=1)
    asked.dropped = ("style",)
    family.encode(asked, DIALECT)
    assert asked.dropped == ("style", "seed")


def test_tools_and_choices_in_every_spelling() -> None:
    flat = {"type": "function", "name": "flat", "parameters": {"properties": {"a": {}}}, "description": None}
    bare = {"name": "bare", "description": "d", "parameters": None}
    found = body("claude-opus-5", tools=(flat, bare, TOOL), tool_choice={"type": "function", "name": "bare"})
    assert found["tools"] == [
        {"name": "flat", "input_schema": {"type": "object", "properties": {"a": {}}}},
        {"name": "bare", "description": "d", "input_schema": {"type": "object", "properties": {}}},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert found["tool_choice"] == {"type": "tool", "name": "bare"}
    for choice, sent in (("none", {"type": "none"}), ("auto", {"type": "auto"}), ("REQUIRED", {"type": "any"})):
        assert body("claude-opus-5", tools=[TOOL], tool_choice=choice)["tool_choice"] == sent
    assert "tool_choice" not in body("claude-opus-5", tools=[], tool_choice="auto")
    assert "tool_choice" not in body("claude-opus-5", tools=[TOOL], parallel_tool_calls=True)
    one = body("claude-opus-5", tools=[TOOL], parallel_tool_calls=False)["tool_choice"]
    assert one == {"type": "auto", "disable_parallel_tool_use": True}
    none = body("claude-opus-5", tools=[TOOL], tool_choice="none", parallel_tool_calls=False)["tool_choice"]
    assert none == {"type": "none"}


def test_a_named_tool_beats_the_schemas_own() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    forced = {"type": "function", "function": {"name": "now"}}
    found = body("claude-3-5-haiku-latest", tools=[TOOL], tool_choice=forced, response_format=schema)
    assert found["tool_choice"] == {"type": "tool", "name": "now"}
    assert [tool["name"] for tool in found["tools"]] == ["now", "structured_answer"]
    either = body("claude-3-5-haiku-latest", tools=[TOOL], response_format=schema)
    assert either["tool_choice"] == {"type": "any"}


def test_response_format_text_asks_for_nothing() -> None:
    assert body("claude-opus-5", response_format={"type": "text"}) == body("claude-opus-5")


def test_user_and_metadata_go_together() -> None:
    assert body("claude-opus-5", user="u")["metadata"] == {"user_id": "u"}
    assert body("claude-opus-5", safety_identifier="s", metadata={"user_id": "m"})["metadata"] == {"user_id": "m"}
    with pytest.raises(InvalidRequestError, match="metadata"):
        body("claude-opus-5", user="u", metadata="m")


def test_native_system_stands_before_the_messages_own() -> None:
    messages = [{"role": "system", "content": "Second."}, *HI]
    assert body("claude-opus-5", messages, system="First.")["system"] == "First.\n\nSecond."
    marked = {"type": "text", "text": "First.", "cache_control": {"type": "ephemeral"}}
    assert body("claude-opus-5", messages, system=[marked])["system"] == [marked, {"type": "text", "text": "Second."}]


def test_a_closed_schema() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}, "additionalProperties": True}},
        "type": "object",
        "title": "T",
        "properties": {
            "a": {"type": "string", "format": "date", "pattern": "^x$", "maxLength": 3},
            "b": {"oneOf": [{"type": "integer", "maximum": 9}, {"type": "null"}], "default": None},
            "c": {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 2},
            "d": {"enum": ["x", "y"], "description": "D"},
            "e": {"type": "string", "format": "binary", "description": "E"},
            "f": True,
        },
        "required": ["a"],
    }
    before = json.dumps(schema)
    assert closed(schema) == {
        "$defs": {
            "N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}, "additionalProperties": False}
        },
        "type": "object",
        "title": "T",
        "properties": {
            "a": {"type": "string", "format": "date", "description": 'pattern: "^x$", maxLength: 3'},
            "b": {
                "anyOf": [{"type": "integer", "description": "maximum: 9"}, {"type": "null"}],
                "description": "default: null",
            },
            "c": {
                "type": "array",
                "items": {"type": "object", "additionalProperties": False},
                "minItems": 1,
                "description": "maxItems: 2",
            },
            "d": {"enum": ["x", "y"], "description": "D"},
            "e": {"type": "string", "description": 'E (format: "binary")'},
            "f": True,
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    assert json.dumps(schema) == before
