"""
Tools, tool choice and the shape of the answer: what each generation of models is asked for.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.gemini_scenarios import DIALECT, TOOL, body, chunk, dropping, refused, request

from llm_master.dialect_gemini import GeminiDialect
from llm_master.wire import gemini

NEW, OLD, OLDEST = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.0-flash"


def config(model: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(model, **params).get("generationConfig", {})
    return found


THEN = {"type": "function", "function": {"name": "then", "description": "Later."}}


def calling(model: str = NEW, **params: Any) -> Any:
    return body(model, tools=[TOOL, THEN], **params).get("toolConfig", {}).get("functionCallingConfig")


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("NONE", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("any", {"mode": "ANY"}),
        ({"type": "auto"}, {"mode": "AUTO"}),
        ({"type": "function", "function": {"name": "then"}}, {"mode": "ANY", "allowedFunctionNames": ["then"]}),
        ({"type": "tool", "name": "then"}, {"mode": "ANY", "allowedFunctionNames": ["then"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [THEN]}},
            {"mode": "ANY", "allowedFunctionNames": ["then"]},
        ),
    ],
)
def test_tool_choice(choice: Any, found: Any) -> None:
    assert calling(tool_choice=choice) == found


def test_a_free_choice_of_some_tools_offers_those() -> None:
    found = body(NEW, tools=[TOOL, THEN], tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [THEN]})
    assert [each["name"] for each in found["tools"][0]["functionDeclarations"]] == ["then"]
    assert "toolConfig" not in found


def strict(**more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {**TOOL["function"], "strict": True, **more}}


def test_strict_tools_are_validated_where_the_model_can() -> None:
    assert body(NEW, tools=[strict(), THEN])["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert body(NEW, tools=[strict()], tool_choice="required")["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
    asked = request(OLDEST, tools=[strict()])
    assert "toolConfig" not in json.loads(gemini.encode(asked, DIALECT))
    assert asked.dropped == ("tools.strict",)


def test_what_stands_beside_a_function() -> None:
    tool = strict(response={"type": "OBJECT"}, response_json_schema={"type": "object"}, behavior="BLOCKING")
    (found,) = body(NEW, tools=[tool])["tools"][0]["functionDeclarations"]
    assert found == {
        "name": "now",
        "parametersJsonSchema": TOOL["function"]["parameters"],
        "response": {"type": "OBJECT"},
        "responseJsonSchema": {"type": "object"},
        "behavior": "BLOCKING",
    }


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        (None, False),
        ({}, False),
        ({"type": "object", "properties": {}}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False}, False),
        ({"type": "object", "additionalProperties": True}, True),
        ({"type": "object", "properties": {"a": {}}}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}, True),
    ],
)
def test_a_function_without_arguments_has_no_schema(schema: Any, kept: bool) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    (found,) = body(NEW, tools=[tool])["tools"][0]["functionDeclarations"]
    assert ("parametersJsonSchema" in found) is kept


@pytest.mark.parametrize(
    ("tool", "found"),
    [
        ({"type": "google_search"}, {"googleSearch": {}}),
        (
            {"google_search": {"time_range_filter": {"start_time": "x"}}},
            {"googleSearch": {"timeRangeFilter": {"startTime": "x"}}},
        ),
        ({"type": "web_search"}, {"googleSearch": {}}),
        ({"type": "code_interpreter"}, {"codeExecution": {}}),
        ({"codeExecution": {}}, {"codeExecution": {}}),
        (
            {"type": "file_search", "file_search_store_names": ["a_b"]},
            {"fileSearch": {"fileSearchStoreNames": ["a_b"]}},
        ),
        ({"urlContext": None}, {"urlContext": {}}),
        ({"function_declarations": [{"name": "x"}]}, {"functionDeclarations": [{"name": "x"}]}),
    ],
)
def test_the_apis_own_tools(tool: dict[str, Any], found: dict[str, Any]) -> None:
    assert body(OLD, tools=[tool])["tools"] == [found]


def test_an_unknown_tool() -> None:
    assert "known: codeExecution" in refused(NEW, "tools", tools=[{"type": "custom", "custom": {"name": "x"}}])
    found, dropped = dropping(NEW, tools=[{"type": "custom"}, TOOL])
    assert ([len(found["tools"][0]["functionDeclarations"])], dropped) == ([1], ("tools",))


def test_functions_beside_the_apis_own_tools() -> None:
    tools = [TOOL, {"type": "google_search"}]
    found = body(NEW, tools=tools)
    assert [list(each) for each in found["tools"]] == [["functionDeclarations"], ["googleSearch"]]
    assert found["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert "toolConfig" not in body(NEW, tools=tools, dialect=GeminiDialect(tool_invocations=False))
    refused(OLD, "tools.googleSearch", tools=tools)
    found, dropped = dropping(OLD, tools=tools)
    assert ([list(each) for each in found["tools"]], dropped) == ([["functionDeclarations"]], ("tools.googleSearch",))


def test_options_of_the_search() -> None:
    assert body(NEW, web_search_options={}, tools=[{"type": "google_search"}])["tools"] == [{"googleSearch": {}}]
    refused(NEW, "web_search_options.user_location", web_search_options={"user_location": {}})


def test_models_that_call_nothing() -> None:
    refused("gemini-3.1-flash-image", "tools", tools=[TOOL])
    found, dropped = dropping("gemma-3-27b-it", tools=[TOOL], tool_choice="required")
    assert (found, dropped) == (body("gemma-3-27b-it"), ("tools",))


def test_calls_one_at_a_time() -> None:
    refused(NEW, "parallel_tool_calls", tools=[TOOL], parallel_tool_calls=False)
    assert body(NEW, parallel_tool_calls=False) == body(NEW)


def test_arguments_in_pieces_are_refused() -> None:
    streaming = {"function_calling_config": {"mode": "AUTO", "stream_function_call_arguments": True}}
    refused(NEW, "tool_config.streamFunctionCallArguments", tools=[TOOL], tool_config=streaming)
    assert calling(tool_config={"functionCallingConfig": {"mode": "AUTO"}}, tool_choice="none") == {"mode": "NONE"}


# The shape of the answer --------------------------------------------------------------------------------------------

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {}}}}}


def test_json_is_asked_for_in_the_way_of_the_model() -> None:
    plain = {"type": "json_object"}
    assert config(NEW, response_format=plain, tools=[TOOL]) == {"responseMimeType": "application/json"}
    assert config(OLD, response_format=plain) == {"responseMimeType": "application/json"}
    found = body(OLD, response_format=plain, tools=[TOOL])
    assert "generationConfig" not in found
    assert "one JSON object" in found["systemInstruction"]["parts"][0]["text"]


def test_a_schema_beside_functions_becomes_one() -> None:
    found = body(OLD, response_format=SCHEMA, tools=[TOOL])
    assert [each["name"] for each in found["tools"][0]["functionDeclarations"]] == ["now", "structured_answer"]
    assert found["toolConfig"]["functionCallingConfig"] == {"mode": "ANY"}
    named = {"type": "function", "function": {"name": "now"}}
    found = body(OLD, response_format=SCHEMA, tools=[TOOL], tool_choice=named)
    assert found["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["now"]}


def test_functions_that_are_not_to_be_called_make_room_for_a_schema() -> None:
    found = body(OLD, response_format=SCHEMA, tools=[TOOL], tool_choice="none")
    assert "tools" not in found
    assert found["generationConfig"]["responseJsonSchema"] == SCHEMA["json_schema"]["schema"]
    fold = gemini.Fold(request(OLD, response_format=SCHEMA, tools=[TOOL], tool_choice="none"), DIALECT)
    assert fold.feed(chunk({"text": "{}"})) == ["{}"]
