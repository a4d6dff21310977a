"""
Answers in the shape of a type, repaired when they do not fit, and seen while they come.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import InvalidRequestError, LLMConfig, QueryLLM, StructuredOutputError
from llm_master.schemas import Wanted, schema_of


@dataclasses.dataclass
class Person:
    name: str
    age: int


class Struct(msgspec.Struct):
    name: str
    age: int


class Typed(TypedDict):
    name: str
    age: int


class Model(pydantic.BaseModel):
    name: str
    age: int


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
GOOD = '{"name": "Ada", "age": 36}'
KINDS: list[tuple[Any, Any]] = [
    (Person, Person("Ada", 36)),
    (Struct, Struct("Ada", 36)),
    (Typed, {"name": "Ada", "age": 36}),
    (Model, Model(name="Ada", age=36)),
    (SCHEMA, {"name": "Ada", "age": 36}),
]
each_kind = pytest.mark.parametrize(
    ("kind", "value"), KINDS, ids=["dataclass", "struct", "typeddict", "pydantic", "schema"]
)


def client(server: FaultServer) -> QueryLLM:
    return QueryLLM(
        LLMConfig(
            openai_api_key="sk-shape-0123456789",
            anthropic_api_key="sk-ant-shape-0123456789",
            base_urls={"openai": server.url, "anthropic": server.url},
        )
    )


def ask(server: FaultServer, model: str = "gpt-4o-mini", **kwargs: Any) -> Any:
    with client(server) as llm:
        return llm.query_sync(model, "Who was first?", **kwargs)


@each_kind
def test_the_answer_is_a_value_of_the_type(kind: Any, value: Any, fault_server: FaultServer) -> None:
    fault_server.script([ok(GOOD)])
    assert ask(fault_server, response_format=kind).parsed == value
    sent = fault_server.requests[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["strict"] is True
    assert sent["json_schema"]["schema"]["additionalProperties"] is False
    assert sorted(sent["json_schema"]["schema"]["required"]) == ["age", "name"]


@each_kind
def test_what_does_not_fit_is_a_typed_error_with_the_answer(kind: Any, value: Any, fault_server: FaultServer) -> None:
    fault_server.script([ok('{"name": "Ada"}')])
    with pytest.raises(StructuredOutputError, match=r"does not fit response_format.*age") as caught:
        ask(fault_server, response_format=kind)
    assert caught.value.response.content == '{"name": "Ada"}'
    assert "\n" not in str(caught.value)
    assert len(fault_server.requests) == 1


@each_kind
def test_it_is_asked_for_again_with_what_was_wrong(kind: Any, value: Any, fault_server: FaultServer) -> None:
    fault_server.script([ok("Ada, 36"), ok('{"name": "Ada"}'), ok(f"```json\n{GOOD}\n```")])
    response = ask(fault_server, response_format=kind, repairs=2)
    assert response.parsed == value
    assert len(response.attempts) == 3
    turns = fault_server.requests[2].json["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[1]["content"] == "Ada, 36"
    assert "age" in turns[4]["content"]


def test_repairs_are_bounded_and_a_cut_answer_is_not_repaired(fault_server: FaultServer) -> None:
    fault_server.script([ok("no")])
    with pytest.raises(StructuredOutputError):
        ask(fault_server, response_format=Person, repairs=2)
    assert len(fault_server.requests) == 3
    fault_server.script([ok('{"name": "A', finish="length")])
    with pytest.raises(StructuredOutputError, match="raise max_tokens"):
        ask(fault_server, response_format=Person, repairs=2)
    assert len(fault_server.requests) == 4


def test_the_other_family_too(fault_server: FaultServer) -> None:
    fault_server.script([ok(GOOD)])
    assert ask(fault_server, "claude-sonnet-5-5", response_format=Person).parsed == Person("Ada", 36)


def test_the_chat_formats_own_form_is_lenient(fault_server: FaultServer) -> None:
    given = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
    fault_server.script([ok(GOOD), ok("Ada")])
    assert ask(fault_server, response_format=given).parsed == {"name": "Ada", "age": 36}
    response = ask(fault_server, response_format=given)
    assert response.parsed is None
    assert any("does not fit its schema" in note for note in response.notes)
    assert ask(fault_server, response_format={"type": "text"}).parsed is None


def test_partial_objects_while_streaming(fault_server: FaultServer) -> None:
    fault_server.script([ok(['{"na', 'me": "A', 'da", "a', 'ge": 36', "}"])])

    async def main() -> Any:
        async with client(fault_server) as llm:
            stream = await llm.query("gpt-4o-mini", "Who?", response_format=Person, stream=True)
            return [each async for each in stream.objects()], stream.response.parsed

    seen, parsed = asyncio.run(main())
    assert seen[-1] == parsed == Person("Ada", 36)
    assert seen[:-1][-1] == {"name": "Ada", "age": 36}
    assert {"name": "A"} in seen


def test_a_stream_that_does_not_fit_says_so_at_its_end(fault_server: FaultServer) -> None:
    fault_server.script([ok(["A", "da"])])

    async def main() -> Any:
        async with client(fault_server) as llm:
            stream = await llm.query("gpt-4o-mini", "Who?", response_format=Person, stream=True)
            texts = [text async for text in stream]
            with pytest.raises(StructuredOutputError):
                _ = stream.response
            return texts

    assert asyncio.run(main()) == ["A", "da"]


@pytest.mark.parametrize("wrong", [lambda: 1, object(), 3])
def test_what_has_no_schema_is_refused(wrong: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="response_format"):
        ask(fault_server, response_format=wrong)
    assert not fault_server.requests


def test_schemas_with_references_and_optional_fields() -> None:
    class Node(msgspec.Struct):
        value: int
        children: list[Node] = []

    class Pair(msgspec.Struct):
        left: Person
        right: Person | None = None

    Node.__annotations__["children"] = list[Node]
    found = schema_of(Pair)
    assert found["properties"]["left"] == {"$ref": "#/$defs/Person"}
    assert set(found["$defs"]) == {"Person"}
    # Strict modes want every property required; an optional one rules that out.
    assert Wanted(Pair).response_format["json_schema"]["strict"] is False
    assert Wanted(Person).response_format["json_schema"]["name"] == "Person"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('{"name": "A", "age": 1.5}', r"\$.age is a float"),
        ('{"name": "A", "age": true}', r"\$.age is a bool"),
        ('{"name": 1, "age": 1}', r"\$.name is a int"),
        ('["A"]', r"\$ is a list"),
        ("{", "not JSON"),
    ],
)
def test_a_plain_schema_is_checked_too(value: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Wanted(SCHEMA).parse(value)
    nested = {"type": "array", "items": {"anyOf": [{"const": 1}, {"enum": ["a", "b"]}]}}
    assert Wanted(nested).parse('[1, "a"]') == [1, "a"]
    with pytest.raises(ValueError, match=r"\$\[1\] fits none"):
        Wanted(nested).parse('[1, "c"]')
