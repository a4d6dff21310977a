"""
What the suite over all rows needs: the rows, how each family's requests look, and a call to any of them.
"""

from __future__ import annotations

from typing import Any

from llm_master import LLMConfig, LLMStream, QueryLLM, RetryPolicy, UnifiedProvider
from llm_master.base_provider import row_of
from support.bodies import ALL_FAMILIES, BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family
from support.exchange import Seen
from support.fault_server import FaultServer

__all__ = ["ENDS", "KEY", "LIVE", "MODEL", "PAIRS", "ROWS", "TOOL", "api_of", "asked_model", "client", "config_for"]
__all__ += ["STREAMED", "check_key", "end_of", "finished", "results_in", "sent_model", "streams"]

LIVE = sorted(name for name in UnifiedProvider.PROVIDER_CONFIGS if row_of(name).status == "live")
ROWS = [name for name in LIVE if row_of(name).chats]
#: Every family of chat of every row.
PAIRS: list[tuple[str, Family]] = [
    (name, family) for name in ROWS for family in ALL_FAMILIES if family in row_of(name).families
]
KEY = "conf-key-0123456789abcdef"
MODEL = "some-model"
#: How the address of a family's requests ends.
ENDS: dict[Family, str] = {
    CHAT: "/chat/completions",
    MESSAGES: "/messages",
    RESPONSES: "/responses",
    GEMINI: f"/models/{MODEL}:generateContent",
    COHERE: "/chat",
    BEDROCK: f"/model/{MODEL}/converse",
}
_RAW = f"/models/{MODEL}:rawPredict"
#: What an address becomes for a stream, where it is another one.
STREAMED = {
    ENDS[GEMINI]: f"/models/{MODEL}:streamGenerateContent?alt=sse",
    ENDS[BEDROCK]: f"/model/{MODEL}/converse-stream",
    _RAW: f"/models/{MODEL}:streamRawPredict",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def config_for(name: str, server: FaultServer) -> LLMConfig:
    """The key, and the server as the base URL."""
    return LLMConfig(**{row_of(name).api_key_attr or "": KEY}, base_urls={name: server.url + "/base/v1"})  # type: ignore[arg-type]


def client(name: str, server: FaultServer) -> QueryLLM:
    """A client that asks once."""
    return QueryLLM(config_for(name, server), retry=RetryPolicy(max_attempts=1))


def api_of(name: str, family: Family) -> dict[str, str]:
    """What names a family in a call: nothing for a row's first one."""
    return {} if row_of(name).families[0] == family else {"api": family}


async def finished(answer: Any) -> Any:
    """The whole response, of a stream too; what the stream gave is its text."""
    if not isinstance(answer, LLMStream):
        return answer
    text = "".join([piece async for piece in answer])
    assert text == answer.response.content
    return answer.response


def in_path(name: str, family: Family) -> bool:
    """Whether the model stands in the path."""
    return family in (GEMINI, BEDROCK) or "{model}" in row_of(name).paths.get(family, "")


def end_of(name: str, family: Family) -> str:
    """How the address of a row's family ends."""
    return _RAW if row_of(name).paths.get(family, "").endswith(":rawPredict") else ENDS[family]


def sent_model(name: str, family: Family, model: str = MODEL) -> str:
    """The name that goes out."""
    row = row_of(name)
    return model if "{model}" in row.paths.get(family, "") else row.model_prefix + model


def asked_model(name: str, family: Family, seen: Seen) -> str:
    """The name that a request asks for."""
    if not in_path(name, family):
        return str(seen.json["model"])
    assert "model" not in seen.json
    end = seen.path.partition("?")[0].rpartition("/model" if family == BEDROCK else "/models")[2]
    return end.strip("/").partition(":")[0].partition("/")[0]


def streams(name: str, family: Family, seen: Seen) -> bool:
    """Whether a request asks for a stream, in its body or by its path."""
    path = seen.path.partition("?")[0]
    told = path.endswith((":streamGenerateContent", "/converse-stream"))
    if family in (GEMINI, BEDROCK):
        assert "stream" not in seen.json
        return told
    if "{model}" in row_of(name).paths.get(family, ""):
        assert path.endswith(":streamRawPredict") == bool(seen.json.get("stream"))
    return seen.json.get("stream") is True


def check_key(name: str, family: Family, seen: Seen) -> None:
    """The key stands in the one header that a row's ``auth`` means, and nowhere else."""
    row = row_of(name)
    auth = row.family_auth.get(family, row.auth)
    header, _, scheme = ("authorization: Bearer" if auth == "bearer" else auth).partition(": ")
    headers = {found.lower(): value for found, value in seen.headers}
    assert headers[header.lower()] == (f"{scheme} {KEY}" if scheme else KEY)
    assert [found for found, value in headers.items() if KEY in value] == [header.lower()]
    assert KEY not in seen.body.decode()
    assert KEY not in seen.path
    for wanted, value in row.headers.items():
        assert headers[wanted.lower()] == value


def results_in(family: Family, body: dict[str, Any]) -> list[tuple[Any, Any]]:
    """The ids of the calls and of their results in a request's history, as the family writes them."""
    if family == RESPONSES:
        return _paired(
            [item["call_id"] for item in body["input"] if item.get("type") == "function_call"],
            [item["call_id"] for item in body["input"] if item.get("type") == "function_call_output"],
        )
    if family == GEMINI:
        parts = [part for content in body["contents"] for part in content["parts"]]
        # An id is optional there; the name holds call and result together.
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        return _paired([(c["name"], c.get("id")) for c in calls], [(r["name"], r.get("id")) for r in results])
    if family in (CHAT, COHERE):
        return _paired(
            [call["id"] for message in body["messages"] for call in message.get("tool_calls") or ()],
            [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"],
        )
    blocks = [
        block
        for message in body["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else [])
    ]
    if family == BEDROCK:
        return _paired(
            [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block],
            [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block],
        )
    return _paired(
        [block["id"] for block in blocks if block["type"] == "tool_use"],
        [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"],
    )


def _paired(calls: list[Any], results: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(calls, results, strict=True))
