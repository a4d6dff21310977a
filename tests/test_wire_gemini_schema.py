"""
JSON schemas in the two forms that the Gemini API reads.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from google.genai import types
from support.gemini_scenarios import body

from llm_master.errors import InvalidRequestError
from llm_master.wire.gemini_schema import portable, subset

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "string"}}}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$comment": "c",
    "title": "T",
    "type": "object",
    "properties": {
        "a": {"type": "string", "pattern": "^x$", "maxLength": 3, "format": "date"},
        "b": {"oneOf": [{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}, {"type": "null"}]},
        "c": {"type": "array", "items": {"enum": [1, 2.5]}, "minItems": 1, "uniqueItems": True},
        "d": {"enum": ["x", "y", None], "description": "D"},
        "e": {"const": True},
        "f": True,
        "g": False,
        "h": {"type": ["string", "null"], "format": "date-time", "default": None},
        "i": {"type": ["string", "integer"]},
        "j": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
        "k": {"type": "array", "prefixItems": [{"const": 1}, {"const": 1}], "items": False},
        "l": {"$ref": "#/$defs/P", "default": {"q": "z"}},
        "m": {"allOf": [{"$ref": "#/$defs/P"}], "description": "M"},
        "n": {"const": None},
        "o": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"P": {"title": "P", "type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}},
}


def test_what_json_schema_fields_take() -> None:
    before = copy.deepcopy(SCHEMA)
    assert portable(SCHEMA, "the schema") == {
        "title": "T",
        "type": "object",
        "properties": {
            "a": {"type": "string", "format": "date", "description": 'pattern: "^x$", maxLength: 3'},
            "b": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 8}, {"type": "null"}]},
            "c": {"type": "array", "items": {"enum": [1, 2.5]}, "minItems": 1, "description": "uniqueItems: true"},
            "d": {"description": 'D (enum: ["x","y",null])'},
            "e": {"type": "boolean", "description": "enum: [true]"},
            "f": {},
            "h": {"type": ["string", "null"], "format": "date-time"},
            "i": {"type": ["string", "integer"]},
            "j": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
            "k": {
                "type": "array",
                "prefixItems": [{"type": "integer", "enum": [1]}, {"type": "integer", "enum": [1]}],
                "items": False,
            },
            "l": {"anyOf": [{"$ref": "#/$defs/P"}], "description": 'default: {"q":"z"}'},
            "m": {"anyOf": [{"$ref": "#/$defs/P"}], "description": "M"},
            "n": {"type": "null"},
            "o": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
        },
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"P": {"title": "P", "type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}},
    }
    assert before == SCHEMA


def test_what_the_openapi_subset_takes() -> None:
    before = copy.deepcopy(SCHEMA)
    person = {"type": "OBJECT", "properties": {"q": {"type": "STRING"}}, "required": ["q"]}
    assert subset(SCHEMA, "the schema") == {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "STRING", "pattern": "^x$", "maxLength": 3, "description": 'format: "date"'},
            "b": {"nullable": True, "type": "INTEGER", "minimum": 1, "maximum": 8},
            "c": {
                "type": "ARRAY",
                "items": {"description": "enum: [1,2.5]"},
                "minItems": 1,
                "description": "uniqueItems: true",
            },
            "d": {"type": "STRING", "enum": ["x", "y"], "nullable": True, "description": "D"},
            "e": {"type": "BOOLEAN", "description": "enum: [true]"},
            "f": {},
            "h": {"nullable": True, "type": "STRING", "format": "date-time"},
            "i": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
            "j": {
                "type": "ARRAY",
                "items": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
                "minItems": 2,
                "maxItems": 2,
            },
            "k": {
                "type": "ARRAY",
                "items": {"type": "INTEGER", "description": "enum: [1]"},
                "minItems": 2,
                "maxItems": 2,
            },
            "l": {**person, "default": {"q": "z"}},
            "m": {**person, "description": "M"},
            "n": {"type": "NULL"},
            "o": {"nullable": True, "anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]},
        },
        "required": ["a"],
        "propertyOrdering": list("abcdefhijklmno"),
    }
    assert before == SCHEMA


def test_the_sdk_knows_every_field_of_the_subset() -> None:
    found = subset(SCHEMA, "the schema")
    read = types.Schema.model_validate(found).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert read == found


def test_recursion() -> None:
    schema = {"$ref": "#/definitions/N", "definitions": {"N": NODE}}
    found = portable(schema, "the schema")
    assert found == {"$ref": "#/$defs/N", "$defs": {"N": NODE}}
    with pytest.raises(InvalidRequestError, match=r"^the schema refers to itself at '#/definitions/N'"):
        subset({**schema, "definitions": {"N": {"properties": {"next": {"$ref": "#/definitions/N"}}}}}, "the schema")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#/$defs/none"}, "which it does not hold"),
        ({"type": "object"}, "an object without properties"),
        (
            {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
            "without properties",
        ),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "differ in 'type'"),
    ],
)
def test_what_the_subset_cannot_say(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        subset(schema, "the schema")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, "differ in 'minimum'"),
        ({"$ref": "#/$defs/a", "anyOf": [{"type": "string"}]}, "write them as one"),
    ],
)
def test_what_json_schema_fields_cannot_say(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        portable(schema, "the schema")


def test_a_closed_bound_is_kept_beside_an_open_one() -> None:
    schema = {"type": "integer", "minimum": 5, "exclusiveMinimum": 0}
    assert portable(schema, "") == {"type": "integer", "minimum": 5, "description": "exclusiveMinimum: 0"}


def test_parts_of_a_whole_are_merged() -> None:
    schema = {
        "description": "W",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "allOf": [
            {"description": "X", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["b", "a"]},
            {"allOf": [{"type": "object"}]},
        ],
    }
    assert portable(schema, "") == {
        "description": "W",
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {}},
        "required": ["a", "b"],
    }


def test_errors_name_the_tool_and_the_model() -> None:
    tool = {"name": "walk", "parameters": {"properties": {"a": {"$ref": "#/x"}}}}
    with pytest.raises(InvalidRequestError) as caught:
        body("gemini-2.0-flash", tools=[tool])
    assert str(caught.value).startswith("gemini model 'gemini-2.0-flash': the schema of tool 'walk' refers to '#/x'")
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    with pytest.raises(InvalidRequestError, match="the schema of response_format has an object without properties"):
        body("gemini-2.0-flash", response_format=asked)
