"""
The official SDK as a second opinion: the same bytes, over a real socket, mean the same to it, and it sends the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from support.behaviours import status
from support.fault_server import FaultServer
from support.gemini_scenarios import ANSWERED, NAMES, STREAMED, dialect_of, expected, plain_of, request_of, stream_of

from llm_master.classes import LLMResponse
from llm_master.wire import gemini
from llm_master.wire.gemini_draft import camel

# The SDK reads an answer and an error as one object, not as a list of them, and knows no end marker.
PLAIN = [name for name in ANSWERED if "response" in expected(name)["plain"] and name != "chunk_list"]
FOLDED = [
    name for name in STREAMED if "error" not in expected(name)["stream"] and name not in ("odd_chunks", "truncated")
]
FAILED = [
    name for name in STREAMED if "error" in expected(name)["stream"] and name not in ("blocked_prompt", "error_list")
]
# Fields that no version of the SDK knows, and a token that goes on with an answer instead of a request.
UNKNOWN = {"native_parameters", "extra_body"}
SENT = [name for name in NAMES if "body" in expected(name) and name not in UNKNOWN]

Provider = tuple[FaultServer, genai.Client, genai.Client]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with FaultServer() as server:
        options = types.HttpOptions(base_url=server.url, api_version="v1beta")
        ours = genai.Client(api_key="k", http_options=options)
        cloud = genai.Client(enterprise=True, api_key="k", http_options=options)
        yield server, ours, cloud
        ours.close()
        cloud.close()


def client_for(provider: Provider, name: str) -> genai.Client:
    return provider[2] if request_of(name).provider == "vertex" else provider[1]


def seen_by_sdk(answers: list[types.GenerateContentResponse]) -> dict[str, Any]:
    """What the SDK reads in an answer, or in the chunks of one."""
    seen: dict[str, Any] = {"text": "", "thoughts": "", "calls": [], "signatures": [], "images": [], "finish": None}
    counts: dict[str, Any] = {}
    for answer in answers:
        counts |= answer.usage_metadata.model_dump(exclude_none=True) if answer.usage_metadata else {}
        seen["id"], seen["model"] = answer.response_id or seen.get("id"), answer.model_version or seen.get("model")
        candidate = next((each for each in answer.candidates or [] if not each.index), types.Candidate())
        if candidate.finish_reason:
            seen["finish"] = candidate.finish_reason.value
        for part in (candidate.content.parts if candidate.content else None) or []:
            add_part(part, seen)
    seen["cached"] = counts.get("cached_content_token_count", 0)
    seen["total"] = counts.get("total_token_count", 0)
    return seen


def add_part(part: types.Part, seen: dict[str, Any]) -> None:
    seen["thoughts" if part.thought else "text"] += part.text or ""
    if part.function_call:
        call = part.function_call
        seen["calls"].append([call.id, call.name, call.args or {}])
    # A signature without anything else is not to be given back.
    if part.thought_signature and part.model_dump(exclude_none=True).keys() != {"thought_signature"}:
        seen["signatures"].append(part.thought_signature)
    if part.inline_data and not part.thought and (part.inline_data.mime_type or "").startswith("image/"):
        seen["images"].append(part.inline_data.data)


def agreeing(finish: str | None) -> set[str | None]:
    """Our finish reasons that say the same; ours also look at what the answer holds."""
    known = {"STOP": {"stop", "tool_calls"}, "MAX_TOKENS": {"length"}, "CONTINUATION": {"pause"}, None: {None, "error"}}
    return known.get(finish, {"error"} if str(finish).startswith("MALFORMED") else {"content_filter"})


def seen_by_us(response: LLMResponse, sdk: dict[str, Any]) -> dict[str, Any]:
    payload = (response.opaque or {}).get("payload", [])
    calls = [[call.id, call.name, call.arguments] for call in response.tool_calls]
    given = [call[0] for call in sdk["calls"]]
    return {
        "text": response.content,
        "thoughts": response.reasoning or "",
        # An id that the API did not give is ours.
        "calls": [[known and ours[0], *ours[1:]] for known, ours in zip(given, calls, strict=True)],
        "signatures": [base64.b64decode(part["thoughtSignature"]) for part in payload if "thoughtSignature" in part],
        "images": [image.data for image in response.images if image.data is not None],
        "finish": sdk["finish"] if response.finish_reason in agreeing(sdk["finish"]) else response.finish_reason,
        "id": response.request_id,
        "model": response.model,
        "cached": response.usage.cached_tokens,
        "total": response.usage.total_tokens,
    }


def ask(provider: Provider, name: str, **extra: Any) -> dict[str, Any]:
    return {"model": request_of(name).model, "contents": "Hi", "config": {"automatic_continuation": False}, **extra}


def compare(name: str, ours: LLMResponse, theirs: dict[str, Any]) -> None:
    if "json_schema_tool" in name and theirs["calls"]:
        # Our own function, whose arguments are the answer.
        ((_, called, arguments),) = theirs["calls"]
        assert (called, json.loads(ours.content)) == ("structured_answer", arguments)
        theirs = {**theirs, "calls": [], "text": ours.content}
    assert seen_by_us(ours, theirs) == theirs


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "video_out"])
def test_a_whole_answer_means_the_same_to_the_sdk(provider: Provider, name: str) -> None:
    provider[0].script([status(200, plain_of(name), content_type="application/json")])
    theirs = client_for(provider, name).models.generate_content(**ask(provider, name))
    compare(name, gemini.decode(plain_of(name), request_of(name), dialect_of(name)), seen_by_sdk([theirs]))


@pytest.mark.parametrize("name", FOLDED)
def test_a_stream_means_the_same_to_the_sdk(provider: Provider, name: str) -> None:
    provider[0].script([status(200, stream_of(name), content_type="text/event-stream")])
    theirs = list(client_for(provider, name).models.generate_content_stream(**ask(provider, name)))
    fold = gemini.Fold(request_of(name), dialect_of(name))
    fold.feed(stream_of(name))
    fold.end()
    compare(name, fold.response(), seen_by_sdk(theirs))


@pytest.mark.parametrize("name", FAILED)
def test_an_error_in_a_stream_is_one_to_the_sdk_too(provider: Provider, name: str) -> None:
    provider[0].script([status(200, stream_of(name), content_type="text/event-stream")])
    with pytest.raises(errors.APIError) as caught:
        list(provider[1].models.generate_content_stream(**ask(provider, name)))
    assert caught.value.code == expected(name)["stream"]["error"]["status_code"]


@pytest.mark.parametrize("name", [name for name in PLAIN if expected(name)["plain"]["response"].get("citations")])
def test_citations_are_those_that_the_sdk_reads(provider: Provider, name: str) -> None:
    provider[0].script([status(200, plain_of(name), content_type="application/json")])
    (candidate,) = client_for(provider, name).models.generate_content(**ask(provider, name)).candidates or []
    found = gemini.decode(plain_of(name), request_of(name), dialect_of(name)).citations
    grounding, recited = candidate.grounding_metadata, candidate.citation_metadata
    urls = {(chunk.web or chunk.retrieved_context).uri for chunk in (grounding.grounding_chunks if grounding else [])}
    urls |= {each.uri for each in (recited.citations or [] if recited else [])}
    assert {each["url_citation"]["url"] for each in found} == urls
    spans = {each["url_citation"].get("cited_text") for each in found if "start_index" in each["url_citation"]}
    assert spans - {None} == {each.segment.text for each in (grounding.grounding_supports if grounding else [])}


# Requests -----------------------------------------------------------------------------------------------------------

# Where the SDK keeps the fields of a body; those of ``generationConfig`` stand beside them.
CONFIG = {
    *("systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent", "labels", "serviceTier"),
    *("continuationToken", "store"),
}


def plain(value: Any) -> Any:
    """A body as it is compared: the SDK writes some names in snake case, base64 in its other alphabet, and sorts."""
    if isinstance(value, dict):
        return {
            camel(key): sorted(plain(each), key=str) if key == "tools" else plain(each) for key, each in value.items()
        }
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.replace("-", "+").replace("_", "/").rstrip("=") if isinstance(value, str) else value


@pytest.mark.parametrize("name", SENT)
def test_the_sdk_sends_the_same_body_to_the_same_address(provider: Provider, name: str) -> None:
    server, client = provider[0], client_for(provider, name)
    server.script([status(200, b'{"candidates": []}', content_type="application/json")])
    body = expected(name)["body"]
    config = {**body.get("generationConfig", {}), **{key: body[key] for key in CONFIG & body.keys()}}
    client.models.generate_content(
        model=request_of(name).model,
        contents=[types.Content.model_validate(each) for each in body["contents"]],
        config=types.GenerateContentConfig.model_validate({**config, "automatic_continuation": False}),
    )
    seen = server.requests[-1]
    # A generation config without fields says nothing.
    assert plain({"generationConfig": {}, **seen.json}) == plain({"generationConfig": {}, **body})
    cloud = request_of(name).provider == "vertex"
    template = "/publishers/{publisher}" + gemini.PATH if cloud else gemini.PATH
    assert seen.path == "/v1beta" + gemini.path(request_of(name).model, template=template)


def test_every_reason_to_finish_is_known() -> None:
    reasons = {each.value for each in types.FinishReason} - {"FINISH_REASON_UNSPECIFIED"}
    asked = request_of("plain_text")
    for reason in reasons:
        body = json.dumps({"candidates": [{"content": {"parts": []}, "finishReason": reason}]}).encode()
        response = gemini.decode(body, asked, dialect_of("plain_text"))
        assert not any("unknown" in note for note in response.notes), reason
    assert len(reasons) > 20


def test_the_sdk_streams_from_the_same_address(provider: Provider) -> None:
    provider[0].script([status(200, stream_of("plain_text"), content_type="text/event-stream")])
    list(provider[1].models.generate_content_stream(model="gemini-2.5-flash", contents="Hi"))
    assert provider[0].requests[-1].path == "/v1beta" + gemini.path("gemini-2.5-flash", stream=True)


def test_the_sdk_had_something_to_say() -> None:
    assert (len(PLAIN) > 30, len(FOLDED) > 20, len(FAILED) > 0, len(SENT) > 50) == (True, True, True, True)
