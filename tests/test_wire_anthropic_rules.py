"""
What each generation of models takes: every rule of the shipped row, over all its generations.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.messages_requests import DIALECT, HI, TOOL, body, dropping, refused, request

from llm_master.errors import InvalidRequestError
from llm_master.wire import anthropic_messages as family

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}

OLDEST = ["claude-3-haiku-20240307", "claude-3-opus-latest", "claude-3-5-sonnet-latest", "claude-3-5-haiku-20241022"]
BUDGET = ["claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-opus-4-1", "claude-sonnet-4-5-20250929"]
BUDGET += ["claude-haiku-4-5"]
V46 = ["claude-opus-4-6-20260205", "claude-sonnet-4-6"]
V47 = ["claude-opus-4-7", "anthropic/claude-opus-4.8", "us.anthropic.claude-opus-4-7-v1:0"]
FIVE = ["claude-fable-5", "claude-fable-5-20260609", "claude-mythos-5", "claude-opus-5", "claude-sonnet-5"]
FIVE += ["claude-haiku-5-5", "Claude-Haiku-5.5"]
NEWEST = ["claude-fable-5-1", "claude-fable-5-2", "claude-mythos-5-1", "claude-mythos-5-2", "claude-opus-5-5"]
NEWEST += ["claude-sonnet-5-5"]
ALL = [*OLDEST, *BUDGET, "claude-opus-4-5", *V46, *V47, *FIVE, *NEWEST]


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize(("name", "value"), [("temperature", 0.5), ("top_p", 0.9), ("top_k", 5)])
def test_sampling(model: str, name: str, value: float) -> None:
    if model in (*V47, *FIVE, *NEWEST):
        refused(model, name, **{name: value})
        found, dropped = dropping(model, **{name: value})
        assert name not in found
        assert dropped == (name,)
    else:
        assert body(model, **{name: value})[name] == value


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}, {"type": "any"}])
def test_forced_tools(model: str, choice: Any) -> None:
    if model in NEWEST:
        refused(model, "tool_choice", tools=[TOOL], tool_choice=choice)
        found, dropped = dropping(model, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
        assert dropped == ("tool_choice",)
        assert found["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
        assert found["system"].startswith("Call ")
    else:
        wanted = (
            {"type": "tool", "name": "now"} if isinstance(choice, dict) and "function" in choice else {"type": "any"}
        )
        assert body(model, tools=[TOOL], tool_choice=choice)["tool_choice"] == wanted


@pytest.mark.parametrize("model", ALL)
def test_prefill(model: str) -> None:
    turns = [*HI, {"role": "assistant", "content": "Hello, "}]
    if model in (*V46, *V47, *FIVE, *NEWEST):
        refused(model, "prefill", turns)
        found, dropped = dropping(model, turns)
        assert (found["messages"], dropped) == (HI, ("prefill",))
    else:
        assert body(model, turns)["messages"][-1] == {"role": "assistant", "content": "Hello,"}


EFFORTS = {
    "claude-opus-4-5": {
        "minimal": "low",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "xhigh": "high",
        "max": "high",
    },
    **{model: {"minimal": "low", "low": "low", "high": "high", "xhigh": "max", "max": "max"} for model in V46},
    **{
        model: {"minimal": "low", "medium": "medium", "xhigh": "xhigh", "max": "max"}
        for model in (*V47, *FIVE, *NEWEST)
    },
}


@pytest.mark.parametrize("model", ALL)
def test_effort(model: str) -> None:
    if model in OLDEST:
        refused(model, "reasoning_effort", reasoning_effort="low")
        found, dropped = dropping(model, reasoning_effort="low")
        assert dropped == ("reasoning_effort",)
        assert "thinking" not in found
        assert "output_config" not in found
        return
    for effort, sent in EFFORTS.get(model, {"low": None, "max": None}).items():
        found = body(model, reasoning_effort=effort)
        assert found.get("output_config") == (sent and {"effort": sent})
        adaptive = model in (*V46, *V47, *FIVE, *NEWEST)
        assert found["thinking"]["type"] == ("adaptive" if adaptive else "enabled")


@pytest.mark.parametrize(
    ("effort", "limit", "budget"),
    [
        ("minimal", None, 1024),
        ("low", None, 2048),
        ("medium", None, 8192),
        ("high", None, 16384),
        ("xhigh", None, 32000),
        ("max", None, 32000),
        ("high", 10_000, 5000),
        ("low", 1500, 1024),
        ("low", 1025, 1024),
    ],
)
def test_budget_of_an_effort(effort: str, limit: int | None, budget: int) -> None:
    found = body("claude-sonnet-4-5", reasoning_effort=effort, max_tokens=limit)
    assert found["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert found["max_tokens"] > budget


def test_no_room_to_think() -> None:
    refused("claude-sonnet-4-5", "reasoning_effort", reasoning_effort="low", max_tokens=1024)
    found, dropped = dropping("claude-sonnet-4-5", reasoning_effort="low", max_tokens=1024)
    assert "thinking" not in found
    assert dropped == ("reasoning_effort",)


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize(("name", "value"), [("reasoning_effort", "none"), ("thinking_budget", 0)])
def test_no_thinking(model: str, name: str, value: Any) -> None:
    if model == "claude-sonnet-5-5":
        assert body(model, **{name: value})["thinking"] == {"type": "between_tools"}
    elif model == "claude-opus-5-5" or "fable" in model or "mythos" in model:
        refused(model, name, **{name: value})
        found, dropped = dropping(model, **{name: value})
        assert "thinking" not in found
        assert dropped == (name,)
    elif model in OLDEST:
        assert "thinking" not in body(model, **{name: value})
    else:
        assert body(model, **{name: value})["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize("model", ALL)
def test_thinking_budget(model: str) -> None:
    if model in OLDEST:
        refused(model, "thinking_budget", thinking_budget=5000)
    elif model in (*V47, *FIVE, *NEWEST):
        found = body(model, thinking_budget=9000)
        assert (found["thinking"], found["output_config"]) == ({"type": "adaptive"}, {"effort": "medium"})
        assert body(model, thinking_budget=500)["output_config"] == {"effort": "low"}
        assert "output_config" not in body(model, thinking_budget=-1)
    else:
        assert body(model, thinking_budget=5000)["thinking"] == {"type": "enabled", "budget_tokens": 5000}


@pytest.mark.parametrize(("budget", "limit", "moved"), [(1000, None, 1024), (9000, 9000, 8999), (9000, 2000, 1999)])
def test_a_budget_out_of_range(budget: int, limit: int | None, moved: int) -> None:
    refused("claude-sonnet-4-5", "thinking_budget", thinking_budget=budget, max_tokens=limit)
    found, dropped = dropping("claude-sonnet-4-5", thinking_budget=budget, max_tokens=limit)
    assert found["thinking"]["budget_tokens"] == moved
    assert dropped == ("thinking_budget",)


def test_a_budget_that_no_limit_leaves_room_for() -> None:
    found, dropped = dropping("claude-sonnet-4-5", thinking_budget=2000, max_tokens=1000)
    assert "thinking" not in found
    assert dropped == ("thinking_budget",)


def test_a_dynamic_budget_needs_an_adaptive_model() -> None:
    assert body("claude-opus-4-6", thinking_budget=-1)["thinking"] == {"type": "adaptive"}
    refused("claude-sonnet-4-5", "thinking_budget", thinking_budget=-1)


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-haiku-5-5"])
def test_top_efforts_need_thinking(model: str) -> None:
    off = {"type": "disabled"}
    refused(model, "reasoning_effort", thinking=off, reasoning_effort="max")
    found, dropped = dropping(model, thinking=off, output_config={"effort": "xhigh"})
    assert (found["output_config"], found["thinking"], dropped) == ({"effort": "high"}, off, ("reasoning_effort",))
    assert body(model, thinking=off, reasoning_effort="high")["output_config"] == {"effort": "high"}
    assert body("claude-opus-4-8", thinking=off, reasoning_effort="max")["output_config"] == {"effort": "max"}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"thinking_budget": 2000, "reasoning_effort": "low"}, "thinking_budget or reasoning_effort"),
        ({"thinking_budget": 2000, "thinking": {"type": "adaptive"}}, "thinking_budget or thinking"),
        ({"reasoning_effort": "none", "thinking": {"type": "adaptive"}}, "thinking or reasoning_effort='none'"),
        ({"reasoning_effort": "low", "thinking": {"type": "enabled"}}, "thinking or reasoning_effort"),
    ],
)
def test_contradictions_are_told(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"give {said}, not both"):
        body("claude-sonnet-4-5", **params)


def test_two_efforts_contradict_each_other() -> None:
    with pytest.raises(InvalidRequestError, match="not both"):
        body("claude-opus-5", reasoning_effort="low", output_config={"effort": "high"})
    assert body("claude-opus-5", reasoning_effort="low", output_config={"effort": "low"})["output_config"]


@pytest.mark.parametrize("effort", ["enormous", 3, True])
def test_an_unknown_effort(effort: Any) -> None:
    refused("claude-opus-5", "reasoning_effort", reasoning_effort=effort)
    assert dropping("claude-opus-5", reasoning_effort=effort) == (body("claude-opus-5"), ("reasoning_effort",))


@pytest.mark.parametrize(
    ("params", "parameter"),
    [({"temperature": 0.5}, "temperature"), ({"top_k": 5}, "top_k"), ({"top_p": 0.9}, "top_p")],
)
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6"])
def test_sampling_does_not_go_with_thinking(model: str, params: dict[str, Any], parameter: str) -> None:
    refused(model, parameter, reasoning_effort="low", **params)
    found, dropped = dropping(model, reasoning_effort="low", **params)
    assert parameter not in found
    assert dropped == (parameter,)
    assert body(model, reasoning_effort="low", temperature=1, top_p=0.95)["temperature"] == 1


def test_forcing_goes_with_adaptive_thinking_only() -> None:
    forced = {"tools": [TOOL], "tool_choice": "required", "reasoning_effort": "low"}
    assert body("claude-opus-4-6", **forced)["tool_choice"] == {"type": "any"}
    refused("claude-sonnet-4-5", "tool_choice", **forced)
    assert dropping("claude-sonnet-4-5", **forced)[0]["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize("model", ALL)
def test_json_schema(model: str) -> None:
    found = body(model, response_format=SCHEMA)
    if model in (*OLDEST, "claude-3-7-sonnet-latest", "claude-sonnet-4-20250514"):
        assert found["tool_choice"]["name"] == found["tools"][0]["name"] == "structured_answer"
        assert "output_config" not in found
    else:
        assert found["output_config"]["format"]["schema"] == {
            **SCHEMA["json_schema"]["schema"],
            "additionalProperties": False,
        }  # type: ignore[index]  # a nested literal
        assert "tools" not in found


@pytest.mark.parametrize("model", ALL)
def test_strict_tools(model: str) -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]  # a nested literal
    asked = request(model, tools=[strict])
    (tool,) = json.loads(family.encode(asked, DIALECT))["tools"]
    old = model in (*OLDEST, "claude-3-7-sonnet-latest", "claude-sonnet-4-20250514")
    assert ("strict" not in tool) is old
    assert asked.dropped == (("tools.strict",) if old else ())


def test_a_tool_that_strictness_would_empty_is_not_strict() -> None:
    schema = {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    asked = request("claude-opus-5", tools=[{"name": "f", "strict": True, "parameters": schema}])
    assert json.loads(family.encode(asked, DIALECT))["tools"] == [{"name": "f", "input_schema": schema}]
    assert asked.dropped == ("tools.strict",)


@pytest.mark.parametrize("model", ALL)
def test_system_between_turns(model: str) -> None:
    turns = [
        *HI,
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "B"},
        {"role": "system", "content": "S"},
    ]
    honoured = any(part in model for part in ("fable", "mythos", "opus-4.8", "opus-5"))
    found = body(model, turns)
    assert ("system" in found) is not honoured
    assert (found["messages"][-1] == {"role": "system", "content": "S"}) is honoured


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-sonnet-4-5"])
def test_a_system_message_after_the_answer_becomes_the_users(model: str) -> None:
    found = body(model, [*HI, {"role": "assistant", "content": "A"}, {"role": "system", "content": "S"}])
    assert found["messages"][-1] == {"role": "user", "content": "S"}
    assert "system" not in found


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-latest", 8192),
        ("claude-3-7-sonnet-latest", 64000),
        ("claude-opus-4-20250514", 32000),
        ("claude-opus-4-1-20250805", 32000),
        ("claude-sonnet-4-20250514", 64000),
        ("claude-opus-4-5-20251101", 64000),
        ("claude-haiku-4-5-20251001", 64000),
        ("claude-opus-4-6", 128000),
        ("claude-opus-5-5", 128000),
        ("claude-something-new", 128000),
    ],
)
def test_default_output_limit(model: str, limit: int) -> None:
    assert body(model)["max_tokens"] == limit
    assert body(model, max_completion_tokens=5)["max_tokens"] == 5
    assert body(model, max_output_tokens=6)["max_tokens"] == 6
    assert body(model, max_tokens=0)["max_tokens"] == 0


def test_every_pattern_of_the_dialect_is_of_use() -> None:
    names = [
        name.lower().replace(".", "-") for name in [*ALL, "claude-2.1", "claude-instant-1", "claude-mythos-preview"]
    ]
    names += ["claude-3-sonnet-20240229"]
    for field, table in msgspec.structs.asdict(DIALECT).items():
        if isinstance(table, tuple) or field in ("max_tokens", "effort"):
            for pattern in table:
                assert any(pattern in name for name in names), (field, pattern)
