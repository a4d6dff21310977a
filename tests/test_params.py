"""
Parameters that are wrong whatever the model: each is refused with its name, its value and what is accepted.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_master import LLMConfig, QueryLLM
from llm_master.errors import InvalidRequestError
from llm_master.params import RESERVED, SYNONYMS, check, check_model_name, check_timeout

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NAN = float("nan")

GOOD: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.0, "top_p": 1},
    {"temperature": 2.5, "top_p": 0.01},
    {"temperature": None, "max_tokens": None, "stop": None, "tools": None, "tool_choice": None, "extra_headers": None},
    {"max_tokens": 1},
    {"max_tokens": 5, "max_completion_tokens": 5, "max_output_tokens": None},
    {"stop": ["a"], "stop_sequences": ["a"]},
    {"presence_penalty": -2, "frequency_penalty": 0.5},
    {"n": 2},
    {"stop": "END"},
    {"stop": ("a", "b")},
    {"seed": -1, "top_k": -1, "logit_bias": {"50256": -100.0}, "user": "eve", "anything": object()},
    {"tools": []},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}},
    {"tools": [TOOL], "tool_choice": {"type": "function", "name": "add"}},
    {"tools": [{"name": "add", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "add"}},
    {"tools": [{"type": "web_search_20250305", "name": "web_search"}, {"type": "mcp", "server_label": "x"}]},
    {"tools": [TOOL], "tool_choice": "REQUIRED"},
    {"tool_choice": "auto"},
    {"tool_choice": {"type": "allowed_tools", "mode": "auto"}},
    {"extra_headers": {"X-Title": "a\tb", "anthropic-beta": "x,y"}},
    {"extra_body": {"provider": {"order": ["a"]}, "model": "x"}},
    {"provider": {"order": ["a", "b"]}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"maximum": math.inf}}}},
    {"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 1024}},
]


@pytest.mark.parametrize("params", GOOD, ids=[",".join(params) for params in GOOD])
def test_what_some_provider_could_take_passes(params: dict[str, Any]) -> None:
    check("gpt-4.1", params)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"temperature": NAN}, r"gpt-4\.1: temperature=nan is not accepted; temperature is a number from 0"),
    ({"temperature": math.inf}, "temperature=inf"),
    ({"temperature": -0.1}, r"temperature=-0\.1"),
    ({"temperature": True}, "temperature=True"),
    ({"temperature": "0.7"}, r"temperature='0\.7'"),
    ({"temperature": 10**400}, "temperature=1000"),
    ({"top_p": 0}, "top_p=0 is not accepted; top_p is a number above 0 and up to 1"),
    ({"top_p": 1.1}, r"top_p=1\.1"),
    ({"top_p": NAN}, "top_p=nan"),
    ({"top_p": False}, "top_p=False"),
    ({"presence_penalty": NAN}, "presence_penalty=nan.*finite number"),
    ({"frequency_penalty": "1"}, "frequency_penalty='1'"),
    ({"min_p": NAN}, "min_p=nan is not accepted; min_p is a finite number"),
    ({"logit_bias": {"1": -math.inf}}, r"logit_bias\.1=-inf"),
    ({"own": [1, {"x": [NAN]}]}, r"own\[1\]\.x\[0\]=nan"),
    ({"extra_body": {"a": {"b": NAN}}}, r"extra_body\.a\.b=nan"),
    ({"provider": {"max_price": NAN}}, r"provider\.max_price=nan"),
    ({"extra_body": "x"}, "extra_body='x' is not accepted; extra_body is a dict"),
    ({"max_tokens": 0}, "max_tokens=0 is not accepted; max_tokens is a whole number from 1"),
    ({"max_tokens": -5}, "max_tokens=-5"),
    ({"max_tokens": 10.0}, r"max_tokens=10\.0"),
    ({"max_tokens": True}, "max_tokens=True"),
    ({"max_completion_tokens": "5"}, "max_completion_tokens='5'"),
    ({"max_output_tokens": 0}, "max_output_tokens=0"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens=5, max_completion_tokens=6 contradict each other"),
    ({"max_completion_tokens": 5, "max_output_tokens": 6}, "contradict each other; give one of them"),
    ({"stop": "a", "stop_sequences": ["b"]}, "stop='a', stop_sequences=.* contradict"),
    ({"n": 0}, "n=0"),
    ({"n": 1.5}, r"n=1\.5"),
    ({"stop": 5}, "stop=5 is not accepted; stop is a text or a list of texts"),
    ({"stop": ["a", 5]}, "stop="),
    ({"stop_sequences": [None]}, "stop_sequences="),
    ({"tools": TOOL}, "tools is a list of tool definitions"),
    ({"tools": [TOOL, "add"]}, r"tools\[1\]='add'"),
    ({"tools": [{"type": "function", "function": {}}]}, r"tools\[0\]=.*'name'"),
    ({"tools": [{"type": "function", "function": "add"}]}, r"tools\[0\]="),
    ({"tools": [{"description": "x"}]}, r"tools\[0\]="),
    ({"tools": [{"name": 5}]}, r"tools\[0\]="),
    ({"tools": [print]}, r"tools\[0\]=<built-in"),
    ({"tools": [TOOL, {"name": "add"}]}, "two tools of the name 'add'"),
    ({"tools": [TOOL], "tool_choice": "ad"}, "tool_choice='ad' is not accepted.*auto, none, required, any"),
    ({"tools": [TOOL], "tool_choice": "add"}, "to force this tool: {'type': 'function', 'function': {'name': 'add'}}"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "sub"}}, r"tool_choice='sub'.*an offered tool \(add\)"),
    ({"tool_choice": {"type": "tool", "name": "add"}}, "tool_choice='add'.*together with tools="),
    ({"tool_choice": 5}, "tool_choice=5"),
    ({"extra_headers": "X: 1"}, "extra_headers must be a dict of texts, not str"),
    ({"extra_headers": {"X Y": "a"}}, r"extra_headers has the name 'X Y', which is not a header's name"),
    ({"extra_headers": {"": "a"}}, "not a header's name"),
    ({"extra_headers": {"X:": "a"}}, "not a header's name"),
    ({"extra_headers": {"X\r\nY": "a"}}, "not a header's name"),
    ({"extra_headers": {5: "a"}}, "not a header's name"),
    ({"extra_headers": {"X": 5}}, r"extra_headers\['X'\] must be a text, not int"),
    ({"extra_headers": {"X": "secret1\r\nHost: evil"}}, r"extra_headers\['X'\] holds a line break or control"),
    ({"extra_headers": {"X": "secret1\0"}}, "control character"),
    ({"extra_headers": {"X": "secret1\x7f"}}, "control character"),
    ({"extra_headers": {"X": "secret1\n"}}, "line break"),
]


@pytest.mark.parametrize(("params", "says"), BAD, ids=[repr(params)[:80] for params, _ in BAD])
def test_what_is_wrong_everywhere_is_refused_and_named(params: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        check("gpt-4.1", params)
    text = str(caught.value)
    assert text.startswith("gpt-4.1: ")
    assert len(text) < 300
    assert "secret1" not in text


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("value", ["sk-abcdef123456", None, 5])
def test_a_name_that_is_no_parameter_is_sent_where_it_belongs(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check("m", {"temperature": 1, name: value})
    assert str(caught.value) == f"m: {name} is not a parameter of the request; it belongs into {RESERVED[name]}"


def test_the_names_that_must_never_reach_a_body_are_all_there() -> None:
    assert {"model", "messages", "stream", "api_key", "base_url", "headers", "provider", "config", "timeout"} <= set(
        RESERVED
    )
    assert "LLMConfig" in RESERVED["api_key"]
    assert "extra_headers" in RESERVED["headers"]


@pytest.mark.parametrize("names", SYNONYMS)
def test_synonyms_that_agree_pass_and_others_do_not(names: tuple[str, ...]) -> None:
    one, other = (1, 2) if names[0] == "max_tokens" else ("a", "b")
    check("m", dict.fromkeys(names, one))
    for name in names[1:]:
        with pytest.raises(InvalidRequestError, match="contradict"):
            check("m", {names[0]: one, name: other})


def test_nothing_is_changed() -> None:
    params = {"tools": [TOOL], "stop": ("a",), "max_tokens": 5}
    check("m", params)
    assert params == {"tools": [TOOL], "stop": ("a",), "max_tokens": 5}


_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
_names = st.sampled_from(["temperature", "top_p", "tools", "stop", "n", "tool_choice", "extra_headers", "own"])


@given(st.dictionaries(_names, _values))
def test_garbage_is_refused_and_nothing_else_is_raised(params: dict[str, Any]) -> None:
    try:
        check("m", params)
    except InvalidRequestError:
        return
    assert params.get("temperature") is None or params["temperature"] >= 0
    assert isinstance(params.get("stop"), str | list | None)


# -- timeouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "seconds"), [(1, 1.0), (0.001, 0.001), (3600, 3600.0)])
def test_a_timeout_is_seconds(value: float, seconds: float) -> None:
    assert check_timeout(value) == seconds
    assert isinstance(check_timeout(value), float)


@pytest.mark.parametrize(
    "value", [0, 0.0, -1, NAN, math.inf, -math.inf, True, False, "5", None, 10**400, [1]], ids=repr
)
def test_another_timeout_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^first_token=.* is not a time limit; give seconds above 0"):
        check_timeout(value, "first_token")


# -- model names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt-4.1", "openai/gpt-4o", "local:/a b/ä.gguf", "@cf/meta/llama", "模型"])
def test_a_model_name_is_any_text_that_can_be_printed(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize("api", [["openai_chat"], {}, 3, b"openai_chat"])
@pytest.mark.parametrize("method", ["query", "preview_request"])
def test_an_api_is_the_name_of_a_family(method: str, api: Any) -> None:
    async def ask() -> None:
        found = getattr(QueryLLM(LLMConfig(openai_api_key="sk-0123456789")), method)("gpt-4o", "Hi", api=api)
        await found

    with pytest.raises(InvalidRequestError, match=r"^api=.* is no name of a family"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "model_name is empty"),
        ("  ", "model_name is empty"),
        ("\n", "model_name is empty"),
        (None, "model_name must be a string such as 'gpt-4.1', not None"),
        (5, "must be a string"),
        (["gpt-4.1"], "must be a string"),
        (b"gpt", "must be a string"),
        ("gpt\r\nX: 1", "control or invisible"),
        ("gpt\0", "control or invisible"),
        ("gpt\u200b-4", "control or invisible"),
        ("a" * 1000 + "\n", "control or invisible"),
    ],
)
def test_another_model_name_is_refused(name: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        check_model_name(name)
    assert len(str(caught.value)) < 200


def test_a_subclass_of_str_is_a_model_name() -> None:
    class Name(str):
        __slots__ = ()

    check_model_name(Name("gpt-4.1"), Name("openai_chat"))
    with pytest.raises(InvalidRequestError, match="empty"):
        check_model_name(Name(" "))
