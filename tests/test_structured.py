"""
Answers in the shape of a type, repaired when they do not fit, and seen while they come.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic
import pytest
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import InvalidRequestError, LLMConfig, QueryLLM, StructuredOutputError, ToolCall
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


@pytest.mark.parametrize(
    "given", [{"repairs": -1}, {"repairs": "2"}, {"repairs": True}, {"repairs": 1, "stream": True}]
)
def test_repairs_that_cannot_be_are_refused_before_any_request(given: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="repairs="):
        ask(fault_server, response_format=Person, **given)
    assert not fault_server.requests


def test_the_other_family_too(fault_server: FaultServer) -> None:
    fault_server.script([ok(GOOD)])
    assert ask(fault_server, "claude-sonnet-5-5", response_format=Person).parsed == Person("Ada", 36)


@dataclasses.dataclass
class Counts:
    title: str
    counts: dict[str, int]


@dataclasses.dataclass
class Node:
    name: str
    nodes: list[Node] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Counts, Counts("a", {"x": 1})),
        (Node, Node("a", [Node("b")])),
        (dict[str, int], {"x": 1}),
        ({"type": "object", "properties": {"a": {"type": "object"}}}, {"a": {"b": 1}}),
    ],
    ids=["map", "recursive", "root", "free"],
)
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-sonnet-5-5"])
def test_a_schema_that_closing_would_empty_is_asked_for_by_a_tool(
    model: str, kind: Any, value: Any, stream: bool, fault_server: FaultServer
) -> None:
    text = msgspec.json.encode(value).decode()
    fault_server.script([ok(None, tool_calls=[ToolCall("call_1", "structured_answer", raw_arguments=text)])])
    found = ask(fault_server, model, response_format=kind, stream=stream)
    if stream:
        assert found.text() == text
        found = found.response
    assert (found.parsed, found.content, found.tool_calls) == (value, text, [])
    sent = fault_server.requests[0].json
    assert "output_config" not in sent
    assert sent["tools"][0]["input_schema"] == Wanted(kind).response_format["json_schema"]["schema"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (list[Model], '{"value": [{"name": "Ada", "age": 36}]}', [Model(name="Ada", age=36)]),
        (Model | None, '{"value": null}', None),
        (dict[str, Model], '{"a": {"name": "Ada", "age": 36}}', {"a": Model(name="Ada", age=36)}),
        (Annotated[int, pydantic.Field(ge=3)], '{"value": 3}', 3),
    ],
)
def test_models_may_stand_in_another_type(kind: Any, text: str, value: Any, fault_server: FaultServer) -> None:
    fault_server.script([ok(text)])
    assert ask(fault_server, response_format=kind).parsed == value
    fault_server.script([ok('{"value": 2, "name": 1}')])
    with pytest.raises(StructuredOutputError, match="does not fit"):
        ask(fault_server, response_format=kind)


class Unspeakable(pydantic.BaseModel):
    call: Callable[[], int]


@pytest.mark.parametrize("kind", [Unspeakable, list[Unspeakable]])
def test_a_model_without_schema_is_refused(kind: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="has no JSON schema"):
        ask(fault_server, response_format=kind)
    assert not fault_server.requests


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-sonnet-4-5"])
def test_a_word_of_services_that_draw_is_none_of_a_chat(model: str, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="response_format 'url' is not known"):
        ask(fault_server, model, response_format="url")
    assert not fault_server.requests


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


# What is no object ----------------------------------------------------------------------------------------------------


class Cat(pydantic.BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    """The other."""

    kind: Literal["dog"]
    name: str


class Pet(pydantic.BaseModel):
    """Told apart by a field."""

    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Tree(pydantic.BaseModel):
    """Holds itself."""

    value: int
    children: list[Tree]


ROOTLESS: list[tuple[Any, str, Any]] = [
    (list[int], "[1, 2]", [1, 2]),
    (list[Person], f"[{GOOD}]", [Person("Ada", 36)]),
    (int, "7", 7),
    (Literal["yes", "no"], '"yes"', "yes"),
    (int | None, "null", None),
    ({"type": "array", "items": {"type": "string"}}, '["a"]', ["a"]),
    ({"enum": ["a", "b"]}, '"b"', "b"),
]


@pytest.mark.parametrize(("kind", "text", "value"), ROOTLESS, ids=[str(each[0])[:30] for each in ROOTLESS])
@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-3-haiku-20240307"])
def test_what_is_no_object_is_asked_for_inside_of_one(
    model: str, kind: Any, text: str, value: Any, fault_server: FaultServer
) -> None:
    fault_server.script([ok(f'{{"value": {text}}}'), ok(text)])
    assert ask(fault_server, model, response_format=kind).parsed == value
    assert ask(fault_server, model, response_format=kind).parsed == value, "nobody held the model to the object"
    body = fault_server.requests[0].json
    sent = body["response_format"]["json_schema"] if "response_format" in body else None
    schema = sent["schema"] if sent else body["tools"][0]["input_schema"]
    assert schema["type"] == "object"
    assert list(schema["properties"]) == schema["required"] == ["value"]
    assert sent is None or sent["strict"] is True


def test_what_does_not_fit_inside_is_an_error(fault_server: FaultServer) -> None:
    fault_server.script([ok('{"value": [1, "b"]}'), ok('{"value": [1], "more": 1}')])
    for _ in range(2):
        with pytest.raises(StructuredOutputError, match="does not fit"):
            ask(fault_server, response_format=list[int])


def test_partial_values_of_what_is_no_object(fault_server: FaultServer) -> None:
    fault_server.script([ok(['{"val', 'ue": [1', ", 2", ", 3]}"])])

    async def main() -> Any:
        async with client(fault_server) as llm:
            stream = await llm.query("gpt-4o-mini", "Who?", response_format=list[int], stream=True)
            return [each async for each in stream.objects()]

    seen = asyncio.run(main())
    assert seen[-1] == [1, 2, 3]
    assert all(isinstance(each, list) for each in seen)
    assert len(seen) > 2


def test_a_union_is_sent_as_strict_modes_take_it() -> None:
    sent = Wanted(Pet).response_format["json_schema"]
    assert sent["strict"] is True
    assert "oneOf" not in str(sent["schema"])
    assert "discriminator" not in str(sent["schema"])
    assert len(sent["schema"]["properties"]["pet"]["anyOf"]) == 2
    assert Wanted(Pet).parse('{"pet": {"kind": "dog", "name": "Rex"}}') == Pet(pet=Dog(kind="dog", name="Rex"))


def test_a_type_that_holds_itself_has_an_object_at_its_root() -> None:
    schema = Wanted(Tree).response_format["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert "Tree" in schema["$defs"]
    assert Wanted(Tree).parse('{"value": 1, "children": []}') == Tree(value=1, children=[])


@pytest.mark.parametrize("word", ["allOf", "not", "if", "patternProperties", "dependentRequired"])
def test_what_strict_modes_refuse_is_not_called_strict(word: str) -> None:
    held: Any = [{}] if word == "allOf" else {}
    inner = {"type": "object", "properties": {"a": {word: held}}, "required": ["a"]}
    assert Wanted(inner).response_format["json_schema"]["strict"] is False
    named = {"type": "object", "properties": {word: {"type": "string"}}, "required": [word]}
    assert Wanted(named).response_format["json_schema"]["strict"] is True, "the name of a property is no keyword"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "https://x.example/s.json"}}}, "no provider fetches schemas"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/gone"}}, "$defs": {}}, "'#/$defs/gone'"),
        ({"$ref": "#/$defs/gone"}, "which is not in it"),
        ({"type": "object", "properties": {"a": {"type": "strnig"}}}, "'strnig' is no type of JSON schema"),
        ({"type": ["object", "nil"]}, "'nil' is no type"),
        ({"anyOf": [{"type": "array", "items": {"type": "numbr"}}]}, "'numbr' is no type"),
    ],
)
def test_a_schema_that_means_nothing_is_refused_before_any_request(
    schema: dict[str, Any], says: str, fault_server: FaultServer
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(says)) as caught:
        ask(fault_server, response_format=schema)
    assert "\n" not in str(caught.value)
    assert not fault_server.requests


def test_what_only_looks_like_a_type_is_not_checked(fault_server: FaultServer) -> None:
    schema = {
        "type": "object",
        "properties": {
            "type": {"enum": [{"type": "strnig"}]},
            "next": {"$ref": "#"},
            "also": {"$ref": "#/properties/type"},
        },
        "examples": [{"type": "strnig"}],
    }
    fault_server.script([ok('{"type": {"type": "strnig"}, "next": {"type": 1}}'), ok('{"next": {"next": {}}}')])
    with pytest.raises(StructuredOutputError, match=r"\$\.next\.type"):
        ask(fault_server, response_format=schema)
    assert ask(fault_server, response_format=schema).parsed == {"next": {"next": {}}}
