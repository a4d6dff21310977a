"""
Images through ``QueryLLM``: which models go where, what they cost, how they are saved, and Gemini's among them.
"""

from __future__ import annotations

import asyncio
import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import Reply, hold, reset, status
from support.fault_server import FaultServer
from support.pictures import DATA_URI, JPEG, KEY, PNG, PNG64, client

from llm_master import (
    ConfigurationError,
    ContentPolicyError,
    EndEvent,
    Image,
    ImageEvent,
    InvalidRequestError,
    LLMConfig,
    LLMResponse,
    LLMStream,
    ProviderError,
    QueryLLM,
    ResponseError,
    UnsupportedParameterError,
    UsageEvent,
)

ANSWER = {
    "created": 1,
    "data": [{"b64_json": PNG64}, {"b64_json": base64.b64encode(JPEG).decode()}],
    "usage": {
        "input_tokens": 13,
        "input_tokens_details": {"text_tokens": 13, "image_tokens": 0},
        "output_tokens": 272,
        "total_tokens": 285,
    },
}
BLUE = [{"role": "user", "content": [{"type": "text", "text": "make it blue"}, {"type": "image", "data": PNG}]}]


def ask(server: FaultServer, model: str, messages: Any = "a red cube", **options: Any) -> LLMResponse:
    async def main() -> LLMResponse:
        async with client(server) as llm:
            found: LLMResponse = await llm.query(model, messages, **options)
            return found

    return asyncio.run(main())


@pytest.mark.parametrize("wanted", ["url", "b64_json"])
def test_a_service_can_be_told_how_to_give_its_pictures(wanted: str, fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"created": 1, "data": [{"url": "https://img.recraft.ai/a"}]})
    assert ask(fault_server, "recraftv4_1", response_format=wanted).images
    assert fault_server.requests[0].json["response_format"] == wanted


# -- where models go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gpt-image-2", "/openai/v1/images/generations"),
        ("openai/gpt-image-2.6-flare", "/openai/v1/images/generations"),
        ("chatgpt-image-latest", "/openai/v1/images/generations"),
        ("recraft-image-gen", "/recraft/v1/images/generations"),
        ("recraftv4_1", "/recraft/v1/images/generations"),
        ("grok-imagine-image", "/xai/v1/images/generations"),
        ("together/black-forest-labs/FLUX.1-schnell", "/together/v1/images/generations"),
        ("deepinfra/black-forest-labs/FLUX-1-dev", "/deepinfra/v1/images/generations"),
    ],
)
def test_the_row_says_which_models_draw(model: str, path: str, fault_server: FaultServer) -> None:
    fault_server.default = status(200, ANSWER)
    response = ask(fault_server, model)
    (seen,) = fault_server.requests
    assert seen.path == path
    assert seen.header("authorization") == f"Bearer {KEY}"
    assert seen.json["prompt"] == "a red cube"
    assert [image.data for image in response.images] == [PNG, JPEG]
    assert response.content == PNG64


def test_other_models_of_such_a_row_still_chat(fault_server: FaultServer) -> None:
    assert ask(fault_server, "gpt-4o-mini").content
    assert fault_server.requests[0].path == "/openai/v1/chat/completions"


def test_api_forces_the_family(fault_server: FaultServer) -> None:
    fault_server.route("/openai/v1/images", [status(200, ANSWER)])
    assert len(ask(fault_server, "openai/some-future-model", api="images").images) == 2
    assert ask(fault_server, "gpt-image-2", api="chat").images == []
    with pytest.raises(ConfigurationError, match="does not serve api='images'"):
        ask(fault_server, "groq/llama", api="images")
    assert [seen.path for seen in fault_server.requests] == [
        "/openai/v1/images/generations",
        "/openai/v1/chat/completions",
    ]


def test_pictures_go_to_edits_as_a_form(fault_server: FaultServer) -> None:
    fault_server.default = status(200, ANSWER)
    ask(fault_server, "gpt-image-2", BLUE)
    (seen,) = fault_server.requests
    assert seen.path == "/openai/v1/images/edits"
    kind = seen.header("content-type") or ""
    assert kind.startswith("multipart/form-data; boundary=")
    assert PNG in seen.body
    assert [name for name, _ in seen.headers if name.lower() == "content-type"] == ["Content-Type"]


def test_a_full_endpoint_takes_no_pictures(fault_server: FaultServer) -> None:
    url = f"{fault_server.url}/own/draw"

    async def main() -> None:
        async with QueryLLM(LLMConfig(openai_api_key=KEY, api_urls={"openai": url})) as llm:
            fault_server.default = status(200, ANSWER)
            await llm.query("gpt-image-2", "x")
            with pytest.raises(ConfigurationError, match="give a base URL instead"):
                await llm.query("gpt-image-2", BLUE)

    asyncio.run(main())
    assert [seen.path for seen in fault_server.requests] == ["/own/draw"]


# -- what comes back ----------------------------------------------------------------------------------------------


def test_tokens_give_the_price_and_a_report_beats_it(fault_server: FaultServer) -> None:
    fault_server.default = status(200, ANSWER)
    response = ask(fault_server, "gpt-image-2")
    assert response.usage.output_image_tokens == 272
    # USD 5 for a million tokens of text in, 30 for a million out.
    assert response.cost == Decimal(13 * 5 + 272 * 30) / 1_000_000
    fault_server.default = status(200, {"created": 1, "credits": 40, "data": [{"url": "https://img.recraft.ai/a"}]})
    assert ask(fault_server, "recraftv3").cost == Decimal("0.04")


def test_a_price_that_nobody_tells_is_none(fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"data": [{"url": "https://api.together.ai/a"}]})
    assert ask(fault_server, "together/black-forest-labs/FLUX.1-schnell").cost is None


def test_retries_and_fallbacks_are_those_of_any_call(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(500), reset, status(503)])
    fault_server.route("/recraft", [status(200, {"data": [{"url": "https://img.recraft.ai/a"}]})])
    response = ask(fault_server, "gpt-image-2", fallback_model="recraftv4_1", n=2)
    assert [(a.provider, a.outcome) for a in response.attempts] == [("openai", "error")] * 3 + [("recraft", "ok")]
    # A fallback gets no parameters that were not given for it.
    assert fault_server.requests[-1].json == {"model": "recraftv4_1", "prompt": "a red cube"}


def test_a_parameter_that_a_model_cannot_take_may_suit_its_fallback(fault_server: FaultServer) -> None:
    fault_server.route("/recraft", [status(200, {"data": [{"url": "https://img.recraft.ai/a"}]})])
    with pytest.raises(UnsupportedParameterError, match=r"^openai/gpt-image-2 does not take style;"):
        ask(fault_server, "gpt-image-2", style="vivid")
    response = ask(
        fault_server,
        "gpt-image-2",
        style="vivid",
        fallback_model="recraftv3",
        fallback_config={"style": "vector_illustration"},
    )
    assert [a.outcome for a in response.attempts] == ["skipped", "ok"]
    assert fault_server.requests[0].json["style"] == "vector_illustration"


def test_a_refusal_by_moderation_is_typed(fault_server: FaultServer) -> None:
    error = {"error": {"message": "rejected by the safety system", "code": "moderation_blocked", "type": "user_error"}}
    fault_server.default = status(400, error)
    with pytest.raises(ContentPolicyError, match="rejected by the safety system"):
        ask(fault_server, "gpt-image-2")
    assert len(fault_server.requests) == 1


def test_a_stream_gives_sketches_then_the_image(fault_server: FaultServer) -> None:
    sketch = {"type": "image_generation.partial_image", "b64_json": PNG64, "partial_image_index": 0}
    end = {"type": "image_generation.completed", "b64_json": PNG64, "usage": ANSWER["usage"], "output_format": "png"}
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in (sketch, end))
    fault_server.default = status(200, body, content_type="text/event-stream")

    async def main() -> list[Any]:
        async with client(fault_server) as llm:
            stream = await llm.query("gpt-image-2", "a red cube", stream=True, partial_images=1)
            assert isinstance(stream, LLMStream)
            return [event async for event in stream.events()]

    first, second, usage, last = asyncio.run(main())
    assert (first, second) == (
        ImageEvent(Image(data=PNG, mime_type="image/png"), partial=True, index=0),
        ImageEvent(Image(data=PNG, mime_type="image/png"), partial=False, index=0),
    )
    assert isinstance(usage, UsageEvent)
    assert isinstance(last, EndEvent)
    assert [image.data for image in last.response.images] == [PNG]
    assert fault_server.requests[0].json["stream"] is True


def test_a_stream_where_there_is_none_is_refused_or_whole(fault_server: FaultServer) -> None:
    fault_server.default = status(200, ANSWER)

    async def main(**options: Any) -> LLMResponse:
        async with client(fault_server) as llm:
            stream = await llm.query("recraftv3", "a red cube", stream=True, **options)
            assert await stream.text() in ("", PNG64)
            return stream.response

    with pytest.raises(UnsupportedParameterError, match="does not take stream"):
        asyncio.run(main())
    assert fault_server.requests == []
    response = asyncio.run(main(drop_params=True))
    assert (len(response.images), response.dropped) == (2, ("stream",))


def test_a_caller_who_gives_up_closes_the_connection(fault_server: FaultServer) -> None:
    fault_server.default = Reply(before=hold())
    fault_server.route("/openai/v1/images", [hold()])

    async def main() -> None:
        async with client(fault_server) as llm:
            task = asyncio.create_task(llm.query("gpt-image-2", "x"))
            await asyncio.to_thread(fault_server.wait_held)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fault_server.wait_closed, 0)

    asyncio.run(main())


# -- Gemini -------------------------------------------------------------------------------------------------------


def gemini(**candidate: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": candidate.pop("parts", [])}, "index": 0, **candidate}],
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 1290,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
            "totalTokenCount": 1299,
        },
    }


DRAWN = [{"text": "Here."}, {"inlineData": {"mimeType": "image/png", "data": PNG64}}]


def test_a_gemini_model_draws_through_the_same_call(fault_server: FaultServer) -> None:
    fault_server.default = status(200, gemini(parts=DRAWN, finishReason="STOP"))
    response = ask(fault_server, "gemini-2.5-flash-image", BLUE, aspect_ratio="16:9", modalities=["text", "image"])
    assert [(image.data, image.mime_type) for image in response.images] == [(PNG, "image/png")]
    assert (response.content, response.usage.output_image_tokens) == ("Here.", 1290)
    (seen,) = fault_server.requests
    assert seen.path.endswith("/models/gemini-2.5-flash-image:generateContent")
    config = seen.json["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "16:9"}
    assert config["responseModalities"] == ["TEXT", "IMAGE"]
    assert seen.json["contents"][0]["parts"][1]["inlineData"]["data"] == PNG64


def test_a_gemini_stream_brings_its_image(fault_server: FaultServer) -> None:
    chunks = [gemini(parts=[part]) for part in DRAWN] + [gemini(finishReason="STOP")]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    fault_server.default = status(200, body, content_type="text/event-stream")

    async def main() -> LLMResponse:
        async with client(fault_server) as llm:
            stream = await llm.query("gemini-2.5-flash-image", "a red cube", stream=True)
            assert await stream.text() == "Here."
            return stream.response

    assert [image.data for image in asyncio.run(main()).images] == [PNG]


def test_gemini_draws_one_image_a_request(fault_server: FaultServer) -> None:
    with pytest.raises(UnsupportedParameterError) as caught:
        ask(fault_server, "gemini-2.5-flash-image", n=2)
    assert caught.value.parameter == "n"
    assert fault_server.requests == []


# -- saving -------------------------------------------------------------------------------------------------------


def test_all_images_are_saved_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "image-2.jpg").write_bytes(b"mine")
    response = LLMResponse(images=[Image(data=PNG), Image(data=JPEG, mime_type="image/webp"), Image(data=b"?")])
    first = response.save(tmp_path)
    assert [path.name for path in first] == ["image-1.png", "image-3.jpg", "image-4.bin"]
    assert [path.read_bytes() for path in first] == [PNG, JPEG, b"?"]
    second = response.save(str(tmp_path), stem="cube")
    assert [path.name for path in second] == ["cube-1.png", "cube-2.jpg", "cube-3.bin"]
    assert response.images[0].save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "image-1.png"
    assert (tmp_path / "image-2.jpg").read_bytes() == b"mine"


def test_saving_works_inside_a_running_loop_too(tmp_path: Path) -> None:
    response = LLMResponse(images=[Image(data=PNG)])

    async def main() -> list[Path]:
        return [*await response.save_async(tmp_path), *response.save(tmp_path)]

    assert [path.name for path in asyncio.run(main())] == ["image-1.png", "image-2.png"]


def test_an_address_of_the_provider_s_own_is_downloaded_without_the_key(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    urls = [{"url": f"{fault_server.url}/out/{number}.png"} for number in range(2)]
    fault_server.route("/recraft", [status(200, {"data": urls})])
    fault_server.route("/out", [status(200, PNG, content_type="image/png")])
    paths = ask(fault_server, "recraftv3", n=2).save(tmp_path)
    assert [path.read_bytes() for path in paths] == [PNG, PNG]
    downloads = fault_server.requests[1:]
    assert sorted(seen.path for seen in downloads) == ["/out/0.png", "/out/1.png"]
    assert not any(KEY in value for seen in downloads for _, value in seen.headers)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x.png",
        "https://127.0.0.1:9/x.png",
        "https://[::1]:9/x.png",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.8/x.png",
        "file:///etc/passwd",
    ],
)
def test_an_answer_cannot_make_us_read_this_network(url: str, tmp_path: Path) -> None:
    with pytest.raises(ResponseError, match="an image of the answer is lost") as caught:
        LLMResponse(images=[Image(url=url)]).save(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_image_elsewhere_on_this_machine_is_not_downloaded(fault_server: FaultServer, tmp_path: Path) -> None:
    with FaultServer() as other:
        fault_server.default = status(200, {"data": [{"url": f"{other.url}/x.png"}]})
        with pytest.raises(ResponseError, match="is lost"):
            ask(fault_server, "recraftv3").save(tmp_path)
        assert other.requests == []


@pytest.mark.parametrize(
    "trouble",
    [
        status(403),
        status(404),
        status(200, b"", content_type="image/png"),
        status(200, "<html>no</html>", content_type="text/html"),
        reset,
    ],
    ids=["403", "404", "empty", "html", "reset"],
)
def test_a_failed_download_leaves_nothing_behind(trouble: Any, fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.route("/good", [status(200, PNG, content_type="image/png")])
    fault_server.route("/bad", [trouble])
    images = [Image(url=f"{fault_server.url}/{name}", trusted=True) for name in ("good", "bad")]
    with pytest.raises(ProviderError, match="an image of the answer is lost"):
        LLMResponse(images=images).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_ends_with_its_time(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.default = hold()
    with pytest.raises(ResponseError, match=r"took longer than 0\.05 s"):
        LLMResponse(images=[Image(url=f"{fault_server.url}/x", trusted=True)]).save(tmp_path, timeout=0.05)


@pytest.mark.parametrize(
    ("images", "options", "match"),
    [
        ([], {}, "no image to save"),
        ([Image()], {}, "neither bytes nor an address"),
        ([Image(data=PNG)], {"stem": "../up"}, "without a folder"),
        ([Image(data=PNG)], {"stem": ""}, "without a folder"),
    ],
)
def test_what_cannot_be_saved(images: list[Image], options: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=match):
        LLMResponse(images=images).save(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_data_uri_in_an_answer_becomes_bytes(fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"data": [{"url": DATA_URI}]})
    (image,) = ask(fault_server, "recraftv3").images
    assert (image.data, image.url, image.mime_type) == (PNG, None, "image/png")


# -- explained ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "messages", "url", "body"),
    [
        (
            "gpt-image-2",
            "a red cube",
            "https://api.openai.com/v1/images/generations",
            {"model": "gpt-image-2", "prompt": "a red cube"},
        ),
        (
            "gpt-image-2",
            BLUE,
            "https://api.openai.com/v1/images/edits",
            {"model": "gpt-image-2", "prompt": "make it blue", "image": f"image/png, {len(PNG)} bytes"},
        ),
        ("flux-pro-1.1", "a red cube", "https://api.bfl.ai/v1/flux-pro-1.1", {"prompt": "a red cube"}),
    ],
)
def test_a_call_can_be_explained(model: str, messages: Any, url: str, body: dict[str, Any]) -> None:
    llm = QueryLLM(LLMConfig(openai_api_key=KEY, bfl_api_key=KEY))
    assert llm.preview_request(model, messages) == body
    text = str(llm.explain(model, messages))
    assert f"POST {url}\n" in text
    assert KEY not in text
