"""
Python functions as tools, and the loop that runs them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import threading
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from support.behaviours import hold, ok, status
from support.fault_server import FaultServer

from llm_master import (
    DeadlineExceededError,
    InvalidRequestError,
    LLMConfig,
    ProviderError,
    QueryLLM,
    ToolCall,
    ToolLoopError,
    Usage,
)
from llm_master.functions import function_tool

HI = "What is the weather?"


@dataclasses.dataclass
class Place:
    city: str
    country: str = "France"


def weather(place: Place, unit: Literal["C", "F"] = "C", days: int = 1) -> dict[str, Any]:
    """
    Tell the weather.

    It is always sunny.

    Args:
        place: where, with
            its country.
        unit (str): of the temperature.
        days: how many.

    Returns:
        a forecast
    """
    return {"city": place.city, "country": place.country, "unit": unit, "days": days}


async def clock(zone: str) -> str:
    """Tell the time."""
    await asyncio.sleep(0)
    return f"noon in {zone}"


def fails() -> None:
    """Fail."""
    raise RuntimeError("no such thing, key sk-abcdefghijklmnopqrstuvwx")


def calls(*wanted: tuple[str, str], **fields: Any) -> Any:
    return ok(
        None, tool_calls=[ToolCall(f"call_{n}", name, raw_arguments=a) for n, (name, a) in enumerate(wanted)], **fields
    )


def run(server: FaultServer, *tools: Any, family: str = "openai", **kwargs: Any) -> Any:
    async def main() -> Any:
        config = LLMConfig(
            openai_api_key="sk-tools-0123456789",
            anthropic_api_key="sk-ant-tools-0123456789",
            base_urls={"openai": server.url, "anthropic": server.url},
        )
        model = "gpt-4o-mini" if family == "openai" else "claude-sonnet-4-5"
        async with QueryLLM(config) as llm:
            return await llm.run_tools(model, HI, tools=list(tools), **kwargs)

    return asyncio.run(asyncio.wait_for(main(), 30))


def observed(server: FaultServer) -> list[str]:
    return [turn["content"] for turn in server.requests[-1].json["messages"] if turn["role"] == "tool"]


def test_types_and_docstring_become_the_definition() -> None:
    definition = function_tool(weather)
    assert definition["type"] == "function"
    function = definition["function"]
    assert function["name"] == "weather"
    assert function["description"] == "Tell the weather.\n\nIt is always sunny."
    parameters = function["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["place"]["description"] == "where, with its country."
    assert parameters["properties"]["unit"]["enum"] == ["C", "F"]
    assert parameters["properties"]["unit"]["description"] == "of the temperature."
    assert parameters["properties"]["days"]["type"] == "integer"
    assert parameters["$defs"]["Place"]["properties"]["country"]["default"] == "France"


class Guest(pydantic.BaseModel):
    name: str
    age: int = 0


def invite(
    guests: list[Guest],
    host: Guest | None = None,
    seats: Annotated[int, pydantic.Field(ge=1, description="free ones")] = 4,
    rooms: Annotated[int, msgspec.Meta(ge=1, description="in all")] = 1,
) -> list[Guest]:
    """Invite them."""
    return [*guests, *([host] if host else [])][: seats * rooms]


def test_what_pydantic_and_msgspec_say_of_a_type_is_in_the_definition() -> None:
    parameters = function_tool(invite)["function"]["parameters"]
    assert parameters["properties"]["guests"] == {"type": "array", "items": {"$ref": "#/$defs/Guest"}}
    assert parameters["properties"]["host"] == {"anyOf": [{"$ref": "#/$defs/Guest"}, {"type": "null"}]}
    assert parameters["properties"]["seats"] == {"type": "integer", "minimum": 1, "description": "free ones"}
    assert parameters["properties"]["rooms"] == {"type": "integer", "minimum": 1, "description": "in all"}
    assert parameters["$defs"]["Guest"]["required"] == ["name"]


def test_a_class_without_docstring_does_not_show_its_bases() -> None:
    assert function_tool(Guest)["function"]["description"] == ""


def test_models_go_into_a_tool_and_come_out_of_it(fault_server: FaultServer) -> None:
    wanted = '{"guests": [{"name": "Ada", "age": "36"}], "host": {"name": "Bob"}}'
    fault_server.script([calls(("invite", wanted), ("invite", '{"guests": [], "seats": 0}')), ok("done")])
    run(fault_server, invite)
    seen = observed(fault_server)
    assert seen[0] == '[{"name":"Ada","age":36},{"name":"Bob","age":0}]'
    assert "greater than or equal to 1" in seen[1]


def exhausted() -> str:
    """Give what is next."""
    return next(iter([]))


def test_a_blocking_tool_that_has_nothing_more_does_not_hang(fault_server: FaultServer) -> None:
    fault_server.script([calls(("exhausted", "{}")), ok("done")])
    assert run(fault_server, exhausted).content == "done"
    assert observed(fault_server) == ["Error: RuntimeError: exhausted raised StopIteration"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_rounds": 0}, "max_rounds=0 is not accepted"),
        ({"max_rounds": "3"}, "max_rounds='3' is not accepted"),
        ({"max_calls": -1}, "max_calls=-1 is not accepted"),
        ({"timeout": "5"}, "timeout='5' is not a time limit"),
        ({"timeout": 0}, "timeout=0 is not a time limit"),
        ({"tool_timeout": -1}, "tool_timeout=-1 is not a time limit"),
        ({"stream": True}, "gives whole answers"),
        ({"handlers": {"clock": 5}}, r"handlers\['clock'\]=5"),
    ],
)
def test_bounds_that_cannot_be_used_are_refused(given: Any, says: str, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        run(fault_server, clock, **given)
    assert not fault_server.requests


@pytest.mark.parametrize("tools", [None, clock, "clock", [5], [{"type": "function", "function": "clock"}]])
def test_tools_that_are_none_are_refused(tools: Any, fault_server: FaultServer) -> None:
    config = LLMConfig(openai_api_key="sk-tools-0123456789", base_urls={"openai": fault_server.url})
    with QueryLLM(config) as llm, pytest.raises(InvalidRequestError, match="run_tools: "):
        asyncio.run(llm.run_tools("gpt-4o-mini", HI, tools=tools))
    assert not fault_server.requests


@pytest.mark.parametrize("wrong", [lambda x: x, lambda *a: a, len], ids=["lambda", "star", "builtin"])
def test_what_cannot_be_a_tool_is_refused(wrong: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="tools:"):
        run(fault_server, wrong)
    assert not fault_server.requests


@pytest.mark.parametrize("family", ["openai", "anthropic"])
def test_the_loop_runs_until_the_model_answers(family: str, fault_server: FaultServer) -> None:
    fault_server.script(
        [
            calls(("weather", '{"place": {"city": "Paris"}}'), ("clock", '{"zone": "CET"}'), usage=Usage(10, 5)),
            ok("Sunny at noon.", usage=Usage(30, 4)),
        ]
    )
    found = run(fault_server, weather, clock, family=family)
    assert found.content == "Sunny at noon."
    assert [result.content for result in found.results] == [
        '{"city":"Paris","country":"France","unit":"C","days":1}',
        "noon in CET",
    ]
    assert (found.usage, len(found.responses)) == (Usage(40, 9), 2)
    assert found.cost is not None
    assert [turn["role"] for turn in found.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert len(fault_server.requests) == 2


def test_whatever_goes_wrong_is_shown_to_the_model(fault_server: FaultServer) -> None:
    fault_server.script(
        [
            calls(
                ("fails", "{}"),
                ("nobody", "{}"),
                ("clock", '{"zone": 5, "more": 1}'),
                ("weather", '{"place": {"town": "Paris"}}'),
                ("clock", "{not json"),
            ),
            ok("I give up."),
        ]
    )
    found = run(fault_server, weather, clock, fails)
    seen = observed(fault_server)
    assert len(seen) == len(found.results) == 5
    assert all(text.startswith("Error: ") for text in seen)
    assert "RuntimeError: no such thing" in seen[0]
    assert "sk-abcdefghij" not in seen[0]
    assert "there is no tool 'nobody'" in seen[1]
    assert "takes no more" in seen[2]
    assert "city" in seen[3]
    assert "not JSON" in seen[4]
    assert isinstance(found.results[0].error, RuntimeError)


def test_calls_of_one_answer_run_at_the_same_time(fault_server: FaultServer) -> None:
    together = threading.Barrier(2, timeout=10)

    def meet(name: str) -> str:
        """Meet the other."""
        together.wait()
        return name

    fault_server.script([calls(("meet", '{"name": "a"}'), ("meet", '{"name": "b"}')), ok("met")])
    found = run(fault_server, meet)
    assert [result.content for result in found.results] == ["a", "b"]


def test_rounds_and_calls_are_bounded(fault_server: FaultServer) -> None:
    fault_server.script([calls(("clock", '{"zone": "CET"}'))])
    with pytest.raises(ToolLoopError, match="max_rounds=3") as caught:
        run(fault_server, clock, max_rounds=3)
    assert (len(caught.value.run.results), len(fault_server.requests)) == (3, 3)
    with pytest.raises(ToolLoopError, match="max_calls=2") as caught:
        run(fault_server, clock, max_calls=2)
    assert len(caught.value.run.results) == 2


def test_an_error_after_an_answer_holds_the_run_so_far(fault_server: FaultServer) -> None:
    fault_server.script([calls(("clock", '{"zone": "CET"}')), status(400, error_code="bad")])
    with pytest.raises(ProviderError) as caught:
        run(fault_server, clock)
    kept = caught.value.run
    assert [answer.tool_calls[0].name for answer in kept.responses] == ["clock"]
    assert [message["role"] for message in kept.messages] == ["user", "assistant", "tool"]
    assert (len(kept.results), kept.usage.total_tokens > 0) == (1, True)
    assert pickle.loads(pickle.dumps(caught.value)).run.results[0].content == kept.results[0].content
    fault_server.script([status(400, error_code="bad")])
    with pytest.raises(ProviderError) as caught:
        run(fault_server, clock)
    assert caught.value.run is None


def test_a_tool_that_takes_too_long_is_an_observation_and_the_deadline_an_error(fault_server: FaultServer) -> None:
    async def slow() -> str:
        """Wait."""
        await asyncio.sleep(60)
        return "never"

    fault_server.script([calls(("slow", "{}")), ok("too slow")])
    assert run(fault_server, slow, tool_timeout=0.02).content == "too slow"
    assert "TimeoutError" in observed(fault_server)[0]
    fault_server.script([calls(("slow", "{}")), ok("too slow")])
    with pytest.raises(DeadlineExceededError, match="while tools run") as caught:
        run(fault_server, slow, timeout=1.0)
    assert caught.value.run.response.tool_calls[0].name == "slow"
    fault_server.script([hold()])
    with pytest.raises(TimeoutError):
        run(fault_server, slow, timeout=0.2)


def test_definitions_need_their_functions(fault_server: FaultServer) -> None:
    definition = function_tool(clock)
    with pytest.raises(InvalidRequestError, match="'clock' has no function"):
        run(fault_server, definition)
    fault_server.script([calls(("clock", '{"zone": "CET"}')), ok("noon")])
    assert run(fault_server, definition, handlers={"clock": clock}).content == "noon"


def test_a_plain_query_takes_functions_too(fault_server: FaultServer) -> None:
    fault_server.script([calls(("clock", '{"zone": "CET"}'))])
    config = LLMConfig(openai_api_key="sk-tools-0123456789", base_urls={"openai": fault_server.url})
    with QueryLLM(config) as llm:
        response = llm.query_sync("gpt-4o-mini", HI, tools=[clock], tool_choice="required")
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("clock", {"zone": "CET"})]
    assert fault_server.requests[0].json["tools"] == [function_tool(clock)]


def test_a_forced_choice_forces_the_first_call_only(fault_server: FaultServer) -> None:
    fault_server.script([calls(("clock", '{"zone": "CET"}')), ok("noon")])
    assert run(fault_server, clock, tool_choice="required").content == "noon"
    assert [seen.json["tool_choice"] for seen in fault_server.requests] == ["required", "auto"]
