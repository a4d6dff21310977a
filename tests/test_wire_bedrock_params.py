"""
What each model behind Converse takes, and what is said of the rest.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.bedrock_requests import CLAUDE, DIALECT, HI, TOOL, body, call, dropping, refused, request

from llm_master.classes import Request
from llm_master.dialect_bedrock import BedrockDialect, bedrock_profile
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.wire import bedrock as family

NOVA, NOVA2, OSS = "us.amazon.nova-lite-v1:0", "us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-120b-1:0"
OPUS55, S46, S37 = (
    "global.anthropic.claude-opus-5-5",
    "anthropic.claude-sonnet-4-6",
    "anthropic.claude-3-7-sonnet-20250219-v1:0",
)
LLAMA, TITAN, GROK, GPT = (
    "us.meta.llama3-3-70b-instruct-v1:0",
    "amazon.titan-text-express-v1",
    "us.xai.grok-4.7",
    "openai.gpt-5.6-sol",
)
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "string"}}}}}
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CLAUDE, {"max_tokens": 64000, "sampling": True, "reasoning": "claude_budget", "native_schema": True}),
        ("anthropic.claude-sonnet-4-20250514-v1:0", {"cache_hour": False, "native_schema": False, "prefill": True}),
        ("eu.anthropic.claude-opus-4-1-20250805-v1:0", {"max_tokens": 32000, "native_schema": False}),
        (S46, {"reasoning": "claude_both", "prefill": False, "forced_tools": True}),
        ("anthropic.claude-opus-4-8", {"sampling": False, "reasoning": "claude_adaptive", "cache_hour": True}),
        (OPUS55, {"sampling": False, "reasoning": "claude_always", "forced_tools": False, "native_schema": True}),
        ("anthropic.claude-opus-7", {"sampling": False, "reasoning": "claude_adaptive", "max_tokens": 128000}),
        ("anthropic.claude-fable-5-2", {"reasoning": "claude_always", "forced_tools": False, "native_schema": False}),
        ("anthropic.claude-3-haiku-20240307-v1:0", {"max_tokens": 4096, "reasoning": None, "cache": False}),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-8", {"max_tokens": 128000}),
        (NOVA, {"takes": frozenset(("image", "document", "video")), "forced_tools": True, "reasoning": None}),
        ("amazon.nova-micro-v1:0", {"takes": frozenset()}),
        (NOVA2, {"reasoning": "nova", "web_search": "nova_grounding"}),
        (OSS, {"reasoning": "gpt_oss", "takes": frozenset(("document",))}),
        ("openai.gpt-6.1-sol", {"reasoning": "gpt_always", "stop": False}),
        ("openai.gpt-6-luna", {"reasoning": "gpt", "stop": False}),
        ("qwen.qwen3-coder-480b-a35b-v1:0", {"reasoning": None, "native_schema": True}),
        ("zai.glm-5.3", {"reasoning": "glm_always"}),
        ("zai.glm-5", {"reasoning": "high_only"}),
        ("deepseek.v3.2", {"reasoning": "high_only", "native_schema": True}),
        (LLAMA, {"beside_results": frozenset(), "forced_tools": False, "tools": True}),
        ("meta.llama3-70b-instruct-v1:0", {"tools": False}),
        ("brand.new-model-v1:0", {"max_tokens": None, "reasoning": None, "native_schema": False, "cache": False}),
    ],
)
def test_capabilities(model: str, fields: dict[str, Any]) -> None:
    found = bedrock_profile(DIALECT, model)
    assert {field: getattr(found, field) for field in fields} == fields
    assert bedrock_profile(DIALECT, model) is found


def test_every_way_to_reason_is_used_and_whole() -> None:
    used = {fields["reasoning"] for fields in DIALECT.per_model.values() if fields.get("reasoning")}
    assert used == DIALECT.reasonings.keys()
    for way in DIALECT.reasonings.values():
        assert way.by_effort is not None or way.by_budget is not None
        for mode in (way.by_effort, way.by_budget):
            assert mode is None or bool(mode.efforts) == (mode.effort is not None)
            assert mode is None or (mode.effort is None) == (mode.budget is not None)


@pytest.mark.parametrize("override", [{"forced": True}, {"reasoning": "unheard_of"}, {"takes": ["smell"]}])
def test_a_wrong_override_is_found_when_the_row_is_read(override: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"per_model": {"amazon": override}}, BedrockDialect)


@pytest.mark.parametrize(
    ("model", "name", "value", "said"),
    [
        (NOVA, "n", 2, "several calls"),
        (NOVA, "seed", 1, "leave it out"),
        (NOVA, "user", "bo", "metadata"),
        (NOVA, "presence_penalty", 1, "leave it out"),
        (NOVA, "logprobs", True, "provider that gives them"),
        (NOVA, "logit_bias", {"1": 2}, "leave it out"),
        (NOVA, "prompt_cache_key", "a", "cache_control"),
        (NOVA, "functions", [], "tools"),
        (NOVA, "temperature", 1.5, "nearest it takes is 1"),
        (NOVA, "top_p", -1, "nearest it takes is 0"),
        (LLAMA, "top_k", 5, "top_p"),
        (OPUS55, "temperature", 0.5, "prompt"),
        (OPUS55, "top_k", 5, "prompt"),
        (GROK, "stop", "END", "yourself"),
        (GPT, "top_p", 0.5, "prompt"),
        (LLAMA, "web_search_options", {}, "tool of your own"),
        (LLAMA, "reasoning_effort", "high", "use a model that does"),
        (NOVA, "thinking_budget", 5000, "use a model that does"),
        (OPUS55, "reasoning_effort", "none", "'low' is the least"),
        (OSS, "thinking_budget", 0, "'low' is the least"),
        (NOVA2, "reasoning_effort", "utmost", "the nearest being 'medium'"),
        (S37, "thinking_budget", -1, "give one"),
        (CLAUDE, "thinking_budget", 100, "1024"),
        (TITAN, "response_format", SCHEMA, "JSON in the prompt"),
        (TITAN, "tools", [TOOL], "use a model that does"),
    ],
)
def test_what_it_cannot_take_names_the_next_best(model: str, name: str, value: Any, said: str) -> None:
    assert said in refused(model, name, **{name: value})
    assert dropping(model, **{name: value})[1] == (name,)


@pytest.mark.parametrize(
    "params",
    [
        {"n": 1},
        {"seed": None},
        {"presence_penalty": 0},
        {"logit_bias": {}},
        {"logprobs": False, "top_logprobs": 0},
        {"store": False},
        {"service_tier": "auto"},
        {"stream_options": {"include_usage": True}, "extra_headers": {"a": "b"}},
        {"stop": []},
        {"parallel_tool_calls": False},
        {"response_format": {"type": "text"}},
        {"tool_choice": "none"},
        {"reasoning_effort": "none"},
        {"thinking_budget": 0},
    ],
)
def test_what_asks_for_nothing_is_taken_in_silence(params: dict[str, Any]) -> None:
    assert body(NOVA, **params) == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"stop": [1]}, "stop"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"inferenceConfig": 5}, "inferenceConfig"),
        ({"thinking_budget": -2}, "thinking_budget"),
        ({"thinking_budget": True}, "thinking_budget"),
        ({"thinking_budget": 5000, "reasoning_effort": "low"}, "not both"),
        ({"tools": ["now"]}, "tool"),
        ({"tools": [{"type": "function", "function": {}}]}, "name"),
        ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "'a.b'"),
        ({"tools": [{"type": "function", "function": {"name": "a" * 65}}]}, "64"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tools is empty"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "no schema"),
        ({"extra_body": {"x": object()}}, "JSON"),
    ],
)
def test_what_cannot_be_read_is_an_invalid_request(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        body(CLAUDE, **params)
    assert not isinstance(caught.value, UnsupportedParameterError)
    assert repr(CLAUDE) in str(caught.value)


@pytest.mark.parametrize(
    ("model", "params", "fields"),
    [
        (CLAUDE, {"reasoning_effort": "max"}, {"thinking": {"type": "enabled", "budget_tokens": 32000}}),
        (
            CLAUDE,
            {"reasoning_effort": "low", "max_tokens": 1500},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        (CLAUDE, {"thinking_budget": 3000}, {"thinking": {"type": "enabled", "budget_tokens": 3000}}),
        (
            CLAUDE,
            {"thinking": {"type": "enabled", "budget_tokens": 5}},
            {"thinking": {"type": "enabled", "budget_tokens": 5}},
        ),
        (CLAUDE, {"thinking_budget": 0}, None),
        (S46, {"reasoning_effort": "xhigh"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        (S46, {"thinking_budget": -1}, {"thinking": {"type": "adaptive"}}),
        (S46, {"thinking_budget": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (OPUS55, {"thinking_budget": 9000}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}),
        (OPUS55, {"thinking_budget": 5}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ("anthropic.claude-opus-5", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (NOVA2, {"reasoning_effort": "none"}, {"reasoningConfig": {"type": "disabled"}}),
        (NOVA2, {"reasoning_effort": "minimal"}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        (NOVA2, {"thinking_budget": 10_000}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}),
        (OSS, {"reasoning_effort": "max"}, {"reasoning_effort": "high"}),
        (GPT, {"reasoning_effort": "max"}, {"reasoning": {"effort": "max"}}),
        (GPT, {"reasoning_effort": "none"}, {"reasoning": {"effort": "none"}}),
        ("qwen.qwen3-32b-v1:0", {"reasoning_effort": "low"}, {"reasoning_config": "high"}),
        ("zai.glm-4.7", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
    ],
)
def test_how_much_it_reasons(model: str, params: dict[str, Any], fields: dict[str, Any] | None) -> None:
    assert body(model, **params).get("additionalModelRequestFields") == fields


def test_what_does_not_go_with_reasoning() -> None:
    refused(CLAUDE, "temperature", reasoning_effort="low", temperature=0.5)
    refused(CLAUDE, "top_k", reasoning_effort="low", top_k=5)
    refused(CLAUDE, "top_p", reasoning_effort="low", top_p=0.5)
    refused(CLAUDE, "tool_choice", reasoning_effort="low", tools=[TOOL], tool_choice="required")
    refused(NOVA2, "max_tokens", reasoning_effort="high", max_tokens=9)
    refused(CLAUDE, "temperature", thinking={"type": "enabled", "budget_tokens": 1024}, temperature=0.5)
    sent = body(CLAUDE, reasoning_effort="low", temperature=1, top_p=0.97)["inferenceConfig"]
    assert (sent["temperature"], sent["topP"]) == (1, 0.97)
    assert body(NOVA2, reasoning_effort="medium", max_tokens=9)["inferenceConfig"] == {"maxTokens": 9}
    # Adaptive thinking goes with a forced tool.
    forced = body(S46, reasoning_effort="low", tools=[TOOL], tool_choice="required")
    assert forced["toolConfig"]["toolChoice"] == {"any": {}}


def test_too_little_room_to_think() -> None:
    assert "raise max_tokens" in refused(CLAUDE, "reasoning_effort", reasoning_effort="low", max_tokens=1000)
    sent, dropped = dropping(CLAUDE, thinking_budget=5000, max_tokens=500)
    assert ("additionalModelRequestFields" in sent, dropped) == (False, ("thinking_budget",))
    sent, _ = dropping(CLAUDE, thinking_budget=5000, max_tokens=3000)
    assert sent["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2999


def test_the_callers_own_fields_win() -> None:
    given = {"thinking": {"type": "adaptive", "display": "x"}}
    sent = body(S46, additionalModelRequestFields=given, reasoning_effort="low")
    assert sent["additionalModelRequestFields"] == {**given, "output_config": {"effort": "low"}}
    shown = {"thinking": {"display": "x"}}
    sent = body(S46, additionalModelRequestFields=shown, reasoning_effort="low")["additionalModelRequestFields"]
    assert sent["thinking"] == {"display": "x", "type": "adaptive"}
    nested = {"inferenceConfig": {"topK": 7}}
    assert body(NOVA, additionalModelRequestFields=nested, top_k=5)["additionalModelRequestFields"] == nested
    assert (given, nested) == ({"thinking": {"type": "adaptive", "display": "x"}}, {"inferenceConfig": {"topK": 7}})
    tools = {"tools": [{"toolSpec": {"name": "x", "inputSchema": {"json": {}}}}]}
    assert body(NOVA, toolConfig=tools)["toolConfig"] == tools
    config = {"effort": "low"}
    assert body(CLAUDE, outputConfig=config, response_format=SCHEMA)["outputConfig"].keys() == {"textFormat", "effort"}


def test_what_the_model_alone_knows_is_passed_to_it() -> None:
    sent = body(LLAMA, repetition=3, nested={"a": {}, "b": {"c": 1}})
    assert sent["additionalModelRequestFields"] == {"repetition": 3, "nested": {"a": {}, "b": {"c": 1}}}


# Tools ------------------------------------------------------------------------------------------------------------


def test_a_built_in_tool_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameterError, match="web_search_options"):
        body(NOVA, tools=[{"type": "web_search"}])
    with pytest.raises(UnsupportedParameterError, match="give a function"):
        body(LLAMA, tools=[{"type": "web_search"}])


def test_a_tool_cannot_be_forced_where_the_model_does_not_know_how() -> None:
    refused(LLAMA, "tool_choice", tools=[TOOL], tool_choice="required")
    sent, dropped = dropping(LLAMA, tools=[TOOL], tool_choice={"type": "tool", "name": "now"})
    assert "toolChoice" not in sent["toolConfig"]
    assert sent["system"] == [{"text": "Call the tool 'now'."}]
    assert dropped == ("tool_choice",)


def test_tools_that_may_not_be_called() -> None:
    asked = request(LLAMA, tools=[TOOL], tool_choice="none")
    assert "toolConfig" not in json.loads(family.encode(asked, DIALECT))
    assert asked.dropped == ("tools",)
    history = [
        *HI,
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    refused(LLAMA, "tool_choice", history, tools=[TOOL], tool_choice="none")
    sent, _ = dropping(LLAMA, history, tools=[TOOL], tool_choice={"type": "none"})
    assert sent["system"] == [{"text": "Call no tools."}]
    assert len(sent["toolConfig"]["tools"]) == 1
    # In a fallback, which gets no parameters, the tools of the history are defined, and nothing is said of them.
    assert "additionalModelRequestFields" not in body(LLAMA, history)
    assert "system" not in body(LLAMA, history)


def test_calls_one_at_a_time() -> None:
    refused(NOVA, "parallel_tool_calls", tools=[TOOL], parallel_tool_calls=False)
    sent = body(CLAUDE, tools=[TOOL], tool_choice="any", parallel_tool_calls=False)
    assert sent["toolConfig"]["toolChoice"] == {"any": {}}
    assert sent["additionalModelRequestFields"] == {"tool_choice": {"disable_parallel_tool_use": True}}


def test_a_tool_that_strictness_would_empty_is_not_strict() -> None:
    schema = {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}
    asked = request(CLAUDE, tools=[tool])
    (block,) = json.loads(family.encode(asked, DIALECT))["toolConfig"]["tools"]
    assert block["toolSpec"] == {"name": "f", "inputSchema": {"json": schema}}
    assert asked.dropped == ("tools.strict",)


def test_strict_tools_where_there_are_none() -> None:
    tool = {"type": "function", "function": {**TOOL["function"], "strict": True, "description": ""}}
    asked = request(NOVA, tools=[tool])
    spec = json.loads(family.encode(asked, DIALECT))["toolConfig"]["tools"][0]["toolSpec"]
    assert spec.keys() == {"name", "inputSchema"}
    assert asked.dropped == ("tools.strict",)


def test_a_named_tool_wins_over_the_tool_of_a_schema() -> None:
    sent = body(
        NOVA, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "now"}}, response_format=SCHEMA
    )
    assert sent["toolConfig"]["toolChoice"] == {"tool": {"name": "now"}}


def test_the_tool_of_a_schema_alone_when_the_others_are_barred() -> None:
    asked = request(NOVA, tools=[TOOL], tool_choice="none", response_format=SCHEMA)
    sent = json.loads(family.encode(asked, DIALECT))["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in sent["tools"]] == ["structured_answer"]
    assert sent["toolChoice"] == {"tool": {"name": "structured_answer"}}
    assert asked.dropped == ("tools",)


def test_options_of_a_search_are_told() -> None:
    asked = request(NOVA, web_search_options={"search_context_size": "low"})
    assert json.loads(family.encode(asked, DIALECT))["toolConfig"] == {
        "tools": [{"systemTool": {"name": "nova_grounding"}}]
    }
    assert asked.dropped == ("web_search_options.search_context_size",)


# Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind", "part"),
    [
        (OSS, "image", {"type": "image_url", "image_url": {"url": PNG}}),
        (CLAUDE, "video", {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}),
        (NOVA, "audio", {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}),
        ("amazon.nova-micro-v1:0", "document", {"type": "file", "file": {"file_data": "data:text/csv;base64,AAAA"}}),
    ],
)
def test_media_that_the_model_does_not_take(model: str, kind: str, part: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameterError, match=f"takes no {kind}") as caught:
        body(model, [{"role": "user", "content": [part]}])
    assert caught.value.parameter == kind


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            "does not fetch an image by its address",
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}},
            "image/png, image/jpeg, image/gif, image/webp",
        ),
        ({"type": "image_url", "image_url": {}}, "without a url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "no data"),
        ({"type": "file", "file": {"file_id": "file-123"}}, "fetches nothing"),
        ({"type": "file", "file": {}}, "file_data"),
        (
            {"type": "file", "file": {"filename": "a.zip", "file_data": "data:application/zip;base64,AAAA"}},
            "application/zip",
        ),
        ({"type": "input_audio", "input_audio": {}}, "input_audio"),
        ({"type": "video_url"}, "without a url"),
        ({"type": "hologram"}, "'hologram'"),
        ({"type": "text"}, "without a text"),
        ({"text": "x"}, "without a type"),
    ],
)
def test_parts_that_cannot_be_read(part: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        body(CLAUDE, [{"role": "user", "content": [part]}])


@pytest.mark.parametrize(
    ("file", "block"),
    [
        (
            {"file_data": "data:application/x-pdf;base64,AA=="},
            {"format": "pdf", "name": "document", "source": {"bytes": "AA=="}},
        ),
        (
            {"file_data": "data:text/x-python,a%3D1", "filename": "a.py"},
            {"format": "txt", "name": "a", "source": {"bytes": "YT0x"}},
        ),
        (
            {"file_data": "data:application/octet-stream;base64,AAAA", "filename": "Ünï/rep__ort.XLSX"},
            {"format": "xlsx", "name": "n rep ort", "source": {"bytes": "AAAA"}},
        ),
    ],
)
def test_documents(file: dict[str, Any], block: dict[str, Any]) -> None:
    sent = body(CLAUDE, [{"role": "user", "content": [{"type": "file", "file": file}, {"type": "text", "text": "?"}]}])
    assert sent["messages"][0]["content"][0] == {"document": block}


def test_files_that_are_pictures_or_films() -> None:
    parts = [
        {"type": "file", "file": {"file_data": PNG}},
        {"type": "file", "file": {"file_data": "data:video/mp4;base64,AAAA"}},
    ]
    sent = body(NOVA, [{"role": "user", "content": parts}])["messages"][0]["content"]
    assert [next(iter(block)) for block in sent] == ["image", "video"]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "needs a user message first"),
        ([{"role": "system", "content": "x"}], "needs a user message first"),
        ([{"role": "assistant", "content": "x"}, *HI], "first message is the assistant's"),
        ([{"role": "narrator", "content": "x"}], "no role"),
        ([{"role": "user", "content": 5}], "content is int"),
        ([{"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}, *HI], "text only"),
        ([*HI, {"role": "tool", "tool_call_id": "a", "content": "x"}], "answers no tool call"),
        ([{"role": "function", "name": "f", "content": "x"}, *HI], "answers no tool call"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a")]}, *HI], "no results"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a")]}], "no results"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a", arguments="[1]")]}], "not a JSON object"),
        ([*HI, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}], "no function call"),
        (
            [
                *HI,
                {"role": "assistant", "tool_calls": [call("a")]},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
                {"role": "assistant", "content": "x"},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ],
            "answers no tool call of the turn before",
        ),
        (
            [
                *HI,
                {"role": "assistant", "tool_calls": [call("a")]},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
                {"role": "tool", "tool_call_id": "a", "content": "2"},
            ],
            "2 results",
        ),
    ],
)
def test_messages_that_cannot_be_read(messages: list[Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        family.encode(Request("bedrock", NOVA, messages, {}), DIALECT)


def test_an_assistant_may_begin_where_the_model_lets_it() -> None:
    messages = [{"role": "assistant", "content": "Hello."}, *HI]
    assert [turn["role"] for turn in body(CLAUDE, messages)["messages"]] == ["assistant", "user"]


def test_a_last_word_of_the_assistant() -> None:
    messages = [*HI, {"role": "assistant", "content": "Sure: "}]
    assert body(CLAUDE, messages)["messages"][-1]["content"] == [{"text": "Sure:"}]
    refused(NOVA, "prefill", messages)
    assert len(dropping(NOVA, messages)[0]["messages"]) == 1
    assert (family.takes_prefill(DIALECT, CLAUDE), family.takes_prefill(DIALECT, NOVA)) == (True, False)
    with pytest.raises(InvalidRequestError, match="add one"):
        dropping(OPUS55, [{"role": "assistant", "content": "Sure"}])


def test_a_turn_that_was_cut_off_while_it_thought_is_left_out() -> None:
    payload = [{"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "s"}}}]
    opaque = {"family": "bedrock", "provider": "bedrock", "model": CLAUDE, "payload": payload}
    messages = [*HI, {"role": "assistant", "content": "", "opaque": opaque}, {"role": "user", "content": "Well?"}]
    assert body(CLAUDE, messages)["messages"] == [{"role": "user", "content": [{"text": "Hi"}, {"text": "Well?"}]}]


def test_numbers_in_arguments_keep_their_digits() -> None:
    arguments = '{"x": 1.50, "big": 12345678901234567890123}'
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call("a", arguments=arguments)]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    assert arguments.encode() in family.encode(request(NOVA, messages), DIALECT)


@pytest.mark.parametrize("arguments", ["", " ", None, {}, "{}"])
def test_a_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call("a", arguments=arguments)]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    assert body(NOVA, messages)["messages"][1]["content"][0]["toolUse"]["input"] == {}


def test_marks_that_have_no_place_are_told() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    part = {"type": "text", "text": "Book", "cache_control": mark}
    old = request("anthropic.claude-3-7-sonnet-20250219-v1:0", [{"role": "user", "content": [part]}])
    sent = json.loads(family.encode(old, DIALECT))
    assert sent["messages"][0]["content"][1] == {"cachePoint": {"type": "default"}}
    assert old.dropped == ("cache_control.ttl",)
    blank = request(
        CLAUDE, [*HI, {"role": "assistant", "content": "x"}, {"role": "user", "content": " ", "cache_control": mark}]
    )
    with pytest.raises(UnsupportedParameterError, match="prefill"):
        family.encode(request(S46, blank.messages), DIALECT)
    family.encode(blank, DIALECT)
    assert blank.dropped == ("cache_control",)


def test_a_mark_inside_a_result_is_told() -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    asked = request(
        CLAUDE,
        [
            *HI,
            {"role": "assistant", "tool_calls": [call("a")]},
            {"role": "tool", "tool_call_id": "a", "content": [part], "cache_control": {"type": "ephemeral"}},
        ],
        tools=[TOOL],
    )
    last = json.loads(family.encode(asked, DIALECT))["messages"][-1]["content"]
    assert last == [
        {"toolResult": {"toolUseId": "a", "content": [{"text": "x"}]}},
        {"cachePoint": {"type": "default"}},
    ]
    assert asked.dropped == ("cache_control",)


def test_what_is_unknown_in_a_message_is_told() -> None:
    asked = request(
        CLAUDE,
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}], "mood": "x"}],
    )
    family.encode(asked, DIALECT)
    assert asked.dropped == ("messages.mood", "detail")


def test_status_where_the_model_knows_none() -> None:
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1", "is_error": True},
    ]
    asked = request("us.writer.palmyra-x5-v1:0", messages, tools=[TOOL])
    assert "status" not in json.loads(family.encode(asked, DIALECT))["messages"][-1]["content"][0]["toolResult"]
    assert asked.dropped == ("messages.is_error",)


def test_media_of_two_results_follow_both() -> None:
    image = [{"type": "image_url", "image_url": {"url": PNG}}]
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": image},
        {"role": "tool", "tool_call_id": "b", "content": image},
        {"role": "user", "content": "Well?"},
    ]
    sent = body("qwen.qwen3-vl-235b-a22b", messages, tools=[TOOL])["messages"]
    assert [next(iter(block)) for block in sent[-1]["content"]] == [
        "toolResult",
        "toolResult",
        "image",
        "image",
        "text",
    ]


def test_results_given_natively() -> None:
    result = {"toolUseId": "a", "content": [{"json": {"x": 1}}]}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "user", "content": [{"type": "text", "text": "Well?"}, {"type": "toolResult", "toolResult": result}]},
    ]
    assert body(NOVA, messages, tools=[TOOL])["messages"][-1]["content"] == [{"toolResult": result}, {"text": "Well?"}]


def test_a_replayed_call_of_the_services_own_tool_defines_that_tool() -> None:
    payload = [
        {"toolUse": {"toolUseId": "s", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "s", "content": [{"json": {}}]}},
    ]
    opaque = {"family": "bedrock", "provider": "bedrock", "model": NOVA, "payload": payload}
    sent = body(NOVA, [*HI, {"role": "assistant", "content": "News.", "opaque": opaque}, *HI])
    assert sent["toolConfig"] == {"tools": [{"systemTool": {"name": "nova_grounding"}}]}
    assert sent["messages"][1]["content"] == [*payload, {"text": "News."}]


MIDDLE: list[dict[str, Any]] = [
    {"text": "I search. "},
    {"toolUse": {"toolUseId": "s", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
    {"toolResult": {"toolUseId": "s", "content": [{"json": {}}]}},
    {"citationsContent": {"content": [{"text": "It rains."}], "citations": [{"title": "News"}]}},
    {"toolUse": {"toolUseId": "tu", "name": "now", "input": {}}},
]


@pytest.mark.parametrize(
    ("content", "ids", "whole"),
    [
        ("I search. It rains.", ["tu"], True),
        ([{"type": "text", "text": "I search. "}, "It rains."], ["tu"], True),
        ("I search. It pours.", ["tu"], False),
        ("I search. It rains.", ["other"], False),
    ],
)
def test_a_turn_with_blocks_in_its_middle_goes_back_whole_or_as_it_was_edited(
    content: Any, ids: list[str], whole: bool
) -> None:
    output = {"message": {"role": "assistant", "content": MIDDLE}}
    answer = json.dumps({"output": output, "stopReason": "tool_use", "usage": {}}).encode()
    response = family.decode(answer, request(NOVA), DIALECT)
    assert response.content == "I search. It rains."
    message = {**response.message, "content": content, "tool_calls": [call(each) for each in ids]}
    result = {"role": "tool", "tool_call_id": ids[0], "content": "1"}
    sent = body(NOVA, [*HI, message, result], tools=[TOOL])["messages"][1]["content"]
    assert (sent == MIDDLE) is whole
    assert any("toolResult" in block for block in sent) is whole


def test_a_speaker_without_a_text_is_named_all_the_same() -> None:
    sent = body(NOVA, [{"role": "user", "name": "Bo", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}])
    assert sent["messages"][0]["content"][0] == {"text": "Bo:"}


def test_a_dialects_own_words() -> None:
    dialect = BedrockDialect(drop=frozenset(("stop",)), defaults={"performanceConfig": {"latency": "optimized"}})
    with pytest.raises(UnsupportedParameterError, match="stop"):
        family.encode(request(NOVA, stop="x"), dialect)
    assert json.loads(family.encode(request(NOVA), dialect))["performanceConfig"] == {"latency": "optimized"}
