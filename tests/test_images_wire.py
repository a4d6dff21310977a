"""
The wire family ``openai_images``: golden requests and answers, with the openai SDK as a second opinion on the bytes.

A scenario is ``NAME.request.json`` (what is asked, and the JSON body that is sent, or the fields of the form),
``NAME.response.json`` or ``NAME.sse``, and ``NAME.expected.json``.
"""

from __future__ import annotations

import asyncio
import base64
import email.parser
import email.policy
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import status
from support.fault_server import FaultServer
from support.pictures import DATA_URI, JPEG, PNG, PNG64

from llm_master.base_provider import row_of
from llm_master.classes import LLMResponse, Request
from llm_master.errors import (
    ContentPolicyError,
    InvalidRequestError,
    ProviderError,
    RateLimitError,
    ResponseError,
    UnsupportedParameterError,
)
from llm_master.events import ImageEvent, UsageEvent
from llm_master.families import dialect_of
from llm_master.wire import openai_images as family

FOLDER = Path(__file__).resolve().parent / "wire" / "openai_images"
SCENARIOS = sorted(path.name.removesuffix(".request.json") for path in FOLDER.glob("*.request.json"))
WHOLE = [name for name in SCENARIOS if (FOLDER / f"{name}.response.json").exists()]
STREAMED = [name for name in SCENARIOS if (FOLDER / f"{name}.sse").exists()]


def loaded(name: str, what: str) -> Any:
    return json.loads((FOLDER / f"{name}.{what}.json").read_text(encoding="utf-8"))


def request_of(name: str) -> tuple[Request, Any]:
    asked = loaded(name, "request")
    request = Request(
        asked["provider"],
        asked["model"],
        asked["messages"],
        asked.get("params", {}),
        stream=asked.get("stream", False),
        drop_params=asked.get("drop_params", False),
    )
    return request, dialect_of(row_of(asked["provider"]), "openai_images")


def simple(model: str = "gpt-image-2", provider: str = "openai", **params: Any) -> tuple[Request, Any]:
    drop = params.pop("drop_params", False)
    messages = params.pop("messages", [{"role": "user", "content": "a red cube"}])
    stream = params.pop("stream", False)
    request = Request(provider, model, messages, params, stream=stream, drop_params=drop)
    return request, dialect_of(row_of(provider), "openai_images")


def form_of(body: bytes, kind: str) -> dict[str, Any]:
    """The fields of a form, as Python's own parser of MIME reads them."""
    head = f"Content-Type: {kind}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    found: dict[str, Any] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        file = part.get_filename()
        # The parser takes the line end before a boundary for a part of the text.
        value: Any = data.decode() if file is None else [file, part.get_content_type(), base64.b64encode(data).decode()]
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def seen(response: LLMResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "images": [
            {
                "url": image.url,
                "data": None if image.data is None else base64.b64encode(image.data).decode(),
                "mime_type": image.mime_type,
                "revised_prompt": image.revised_prompt,
            }
            for image in response.images
        ],
        "content": response.content,
        "usage": {name: getattr(usage, name) for name in usage.__struct_fields__ if getattr(usage, name)},
        "reported_cost": None if response.reported_cost is None else str(response.reported_cost),
        "finish_reason": response.finish_reason,
        "dropped": list(response.dropped),
        "notes": list(response.notes),
    }


def test_there_are_scenarios_of_every_kind() -> None:
    assert len(WHOLE) >= 6
    assert len(STREAMED) >= 2


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_request_is_written_as_it_stands_in_the_file(name: str) -> None:
    request, dialect = request_of(name)
    body = family.encode(request, dialect)
    path, kind = family.where(body, dialect, request.model)
    asked = loaded(name, "request")
    assert path == asked["path"]
    if "form" in asked:
        assert kind.startswith("multipart/form-data; boundary=")
        assert form_of(body, kind) == asked["form"]
    else:
        assert kind == "application/json"
        assert json.loads(body) == asked["body"]
    assert family.encode(request_of(name)[0], dialect) == body


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_is_read_as_it_stands_in_the_file(name: str) -> None:
    request, dialect = request_of(name)
    family.encode(request, dialect)
    response = family.decode((FOLDER / f"{name}.response.json").read_bytes(), request, dialect)
    assert seen(response) == loaded(name, "expected")


def folded(name: str, pieces: list[bytes]) -> tuple[family.Fold, list[Any]]:
    request, dialect = request_of(name)
    fold = family.Fold(request, dialect)
    events = [event for piece in pieces for event in fold.feed(piece)]
    return fold, events + fold.end()


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_is_read_as_it_stands_in_the_file(name: str) -> None:
    fold, events = folded(name, [(FOLDER / f"{name}.sse").read_bytes()])
    assert (fold.done, fold.complete) == (True, True)
    assert seen(fold.response()) == loaded(name, "expected")
    sketches = [event for event in events if isinstance(event, ImageEvent) and event.partial]
    whole = [event for event in events if isinstance(event, ImageEvent) and not event.partial]
    assert [event.image for event in whole] == fold.response().images
    assert [event.index for event in sketches] == list(range(len(sketches)))
    assert any(isinstance(event, UsageEvent) for event in events)


@pytest.mark.parametrize("name", STREAMED)
@given(data=st.data())
def test_any_split_of_the_bytes_gives_the_same(name: str, data: st.DataObject) -> None:
    whole = (FOLDER / f"{name}.sse").read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    fold, events = folded(name, pieces)
    plain, plain_events = folded(name, [whole])
    assert seen(fold.response()) == seen(plain.response())
    assert events == plain_events


# -- the vendor's own package -------------------------------------------------------------------------------------


def sdk_calls(server: FaultServer, call: Any) -> Any:
    async def main() -> Any:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0) as sdk:
            return await call(sdk)

    return asyncio.run(main())


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_means_the_same_to_the_sdk(name: str, fault_server: FaultServer) -> None:
    body = (FOLDER / f"{name}.response.json").read_bytes()
    fault_server.default = status(200, body, content_type="application/json")
    theirs = sdk_calls(fault_server, lambda sdk: sdk.images.generate(prompt="x", model="m"))
    request, dialect = request_of(name)
    ours = family.decode(body, request, dialect)
    held = [item for item in theirs.data if item.b64_json or item.url]
    assert [(i.url, i.revised_prompt) for i in ours.images] == [(i.url, i.revised_prompt) for i in held]
    assert [i.data for i in ours.images] == [
        base64.b64decode(i.b64_json) if i.b64_json is not None else None for i in held
    ]
    if theirs.usage is not None and theirs.usage.input_tokens is not None:
        tokens = (theirs.usage.input_tokens, theirs.usage.output_tokens, theirs.usage.total_tokens)
        assert (ours.usage.input_tokens, ours.usage.output_tokens, ours.usage.total_tokens) == tokens
        assert ours.usage.input_image_tokens == theirs.usage.input_tokens_details.image_tokens


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_means_the_same_to_the_sdk(name: str, fault_server: FaultServer) -> None:
    body = (FOLDER / f"{name}.sse").read_bytes()
    fault_server.default = status(200, body, content_type="text/event-stream")

    async def read(sdk: Any) -> list[Any]:
        stream = await sdk.images.generate(prompt="x", model="m", stream=True)
        return [event async for event in stream]

    theirs = [base64.b64decode(event.b64_json) for event in sdk_calls(fault_server, read)]
    _, events = folded(name, [body])
    assert [event.image.data for event in events if isinstance(event, ImageEvent)] == theirs


def test_our_requests_are_those_of_the_sdk(fault_server: FaultServer) -> None:
    answer = {"created": 1, "data": [{"b64_json": PNG64}]}
    fault_server.default = status(200, answer)
    params: dict[str, Any] = {"n": 2, "size": "1024x1024", "quality": "low", "background": "opaque"}
    sdk_calls(fault_server, lambda sdk: sdk.images.generate(prompt="a red cube", model="gpt-image-2", **params))
    request, dialect = simple(**params)
    (theirs,) = fault_server.requests
    body = family.encode(request, dialect)
    assert theirs.json == json.loads(body)
    assert theirs.path == "/v1" + family.where(body, dialect, request.model)[0]


@pytest.mark.parametrize("pictures", [1, 2])
def test_our_forms_are_those_of_the_sdk(pictures: int, fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"created": 1, "data": [{"b64_json": PNG64}]})
    files = [("image1.png", PNG, "image/png"), ("image2.jpeg", JPEG, "image/jpeg")][:pictures]
    params: dict[str, Any] = {"n": 2, "output_format": "png", "svg": {"model": "gpt-6-luna"}}
    mask = ("mask.png", PNG, "image/png")
    sdk_calls(
        fault_server,
        lambda sdk: sdk.images.edit(
            image=files if pictures > 1 else files[0], mask=mask, prompt="make it blue", model="gpt-image-2", **params
        ),
    )
    uris = [DATA_URI, f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"][:pictures]
    parts = [{"type": "text", "text": "make it blue"}]
    messages = [{"role": "user", "content": [*parts, *({"type": "image_url", "image_url": {"url": u}} for u in uris)]}]
    request, dialect = simple(messages=messages, mask=PNG, **params)
    body = family.encode(request, dialect)
    path, kind = family.where(body, dialect, request.model)
    (theirs,) = fault_server.requests
    assert theirs.path == "/v1" + path
    assert form_of(body, kind) == form_of(theirs.body, theirs.header("content-type") or "")


# -- what a model cannot take -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider", "params", "parameter"),
    [
        ("gpt-image-2", "openai", {"response_format": "url"}, "response_format"),
        ("gpt-image-2", "openai", {"style": "vivid"}, "style"),
        ("gpt-image-2", "openai", {"n": 11}, "n"),
        ("gpt-image-2", "openai", {"quality": "max"}, "quality"),
        ("gpt-image-2", "openai", {"size": "1000x1000"}, "size"),
        ("gpt-image-2", "openai", {"size": "3200x1024"}, "size"),
        ("gpt-image-2", "openai", {"size": "4096x4096"}, "size"),
        ("gpt-image-1-mini", "openai", {"size": "2048x2048"}, "size"),
        ("gpt-image-2", "openai", {"temperature": 1}, "temperature"),
        ("gpt-image-2", "openai", {"mask": PNG}, "mask"),
        ("recraftv3", "recraft", {"n": 7}, "n"),
        ("recraftv4_1", "recraft", {"style": "digital_illustration"}, "style"),
        ("recraftv3", "recraft", {"stream": True}, "stream"),
        ("grok-imagine-image", "xai", {"size": "1024x1024"}, "size"),
        ("black-forest-labs/FLUX.1-schnell", "together", {"n": 5}, "n"),
    ],
)
def test_a_parameter_is_refused_by_name_or_dropped(
    model: str, provider: str, params: dict[str, Any], parameter: str
) -> None:
    request, dialect = simple(model, provider, **params)
    with pytest.raises(UnsupportedParameterError, match=rf"^{provider}/{model} does not take {parameter}\b") as caught:
        family.encode(request, dialect)
    assert caught.value.parameter == parameter
    request, dialect = simple(model, provider, drop_params=True, **params)
    body = json.loads(family.encode(request, dialect))
    assert request.dropped == (parameter,)
    assert body.get(parameter) != params[parameter]


def test_what_happens_anyway_may_be_asked_for() -> None:
    request, dialect = simple(response_format="b64_json", size="auto", seed=None)
    assert json.loads(family.encode(request, dialect)) == {
        "model": "gpt-image-2",
        "prompt": "a red cube",
        "size": "auto",
    }


def with_images(*urls: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "x"}]
    return [{"role": "user", "content": parts + [{"type": "image_url", "image_url": {"url": url}} for url in urls]}]


@pytest.mark.parametrize(
    ("model", "provider", "params", "match"),
    [
        ("gpt-image-2", "openai", {"messages": [{"role": "assistant", "content": "hi"}]}, "needs a prompt"),
        ("gpt-image-2", "openai", {"messages": [{"role": "user", "content": "x" * 32_001}]}, "32000 characters"),
        ("recraftv3", "recraft", {"messages": [{"role": "user", "content": "x" * 1_001}]}, "1000 characters"),
        ("gpt-image-2", "openai", {"messages": with_images(*[DATA_URI] * 17)}, "17 images and takes 16 at most"),
        ("recraftv3", "recraft", {"messages": with_images("https://x.example/a.png")}, "as bytes, not as addresses"),
        (
            "FLUX",
            "deepinfra",
            {"messages": with_images(DATA_URI)},
            "1 images and takes none",
        ),
        ("gpt-image-2", "openai", {"n": "two"}, "n is a number from 1 to 10"),
        ("gpt-image-2", "openai", {"extra_body": [1]}, "extra_body must be a dict"),
        ("gpt-image-2", "openai", {"user": object()}, "cannot be written as JSON"),
        ("gpt-image-2", "openai", {"messages": with_images(DATA_URI), "mask": b"no image"}, "mask must be the bytes"),
        ("gpt-image-2", "openai", {"messages": with_images(DATA_URI), "mask": "a.png"}, "mask must be the bytes"),
        (
            "black-forest-labs/F",
            "together",
            {"size": "64x64", "width": 128},
            "size='64x64' and width=128 differ",
        ),
        ("recraftv3", "recraft", {"size": "1:1", "aspect_ratio": "2:1"}, "are the same; give one"),
    ],
)
def test_bad_input(model: str, provider: str, params: dict[str, Any], match: str) -> None:
    request, dialect = simple(model, provider, **params)
    with pytest.raises(InvalidRequestError, match=match) as caught:
        family.encode(request, dialect)
    assert "\n" not in str(caught.value)


# -- what may come back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "match"),
    [
        (b"<html>", ResponseError, "not JSON"),
        (b"{}", ResponseError, "no image"),
        (b'{"data": []}', ResponseError, "no image"),
        (b'{"data": [{"b64_json": "!"}]}', ResponseError, "cannot be read"),
        (b'{"data": [{}, {"url": ""}]}', ContentPolicyError, "withheld every image"),
        (
            b'{"error": {"message": "Your request was blocked", "code": "moderation_blocked"}}',
            ContentPolicyError,
            "was blocked",
        ),
        (b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', RateLimitError, "slow down"),
        (b'{"data": 7}', ResponseError, "no image"),
    ],
)
def test_an_answer_that_is_none(body: bytes, kind: type[ProviderError], match: str) -> None:
    request, dialect = simple()
    with pytest.raises(kind, match=match):
        family.decode(body, request, dialect)


def test_a_stream_may_hold_an_error_and_nonsense() -> None:
    request, dialect = simple(stream=True)
    fold = family.Fold(request, dialect)
    assert fold.feed(b"data: {broken\n\ndata: [1]\n\n") == []
    assert len(fold.notes) == 2
    with pytest.raises(ContentPolicyError):
        fold.feed(b'data: {"type":"error","error":{"message":"no","code":"moderation_blocked"}}\n\n')


def test_a_stream_that_is_cut_is_not_complete() -> None:
    request, dialect = simple(stream=True)
    fold = family.Fold(request, dialect)
    event = {"type": "image_generation.partial_image", "b64_json": PNG64, "partial_image_index": 0}
    fold.feed(f"data: {json.dumps(event)}\n\n".encode())
    fold.end()
    assert (fold.complete, fold.done, fold.response().finish_reason) == (False, False, None)
