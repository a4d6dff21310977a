"""
Services that take a job and say later what became of it: every status they document, and everything that can go wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.behaviours import close, hold, reset, status
from support.exchange import Behaviour
from support.fault_server import FaultServer
from support.pictures import DATA_URI, KEY, PNG, PNG64, client, jobs, quick

from llm_master import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BFLProvider,
    ContentPolicyError,
    InvalidRequestError,
    LLMConfig,
    LLMError,
    LLMResponse,
    NotFoundError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ResponseError,
    ServerError,
    Timeouts,
    UnifiedProvider,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.families import dialect_of
from llm_master.providers import polling

MODELS = {"bfl": "bfl/flux-pro-1.1", "replicate": "replicate/black-forest-labs/flux-schnell", "fal": "fal-ai/flux/dev"}
SUBMIT = {
    "bfl": "/bfl/v1/flux-pro-1.1",
    "replicate": "/replicate/v1/models/black-forest-labs/flux-schnell/predictions",
    "fal": "/fal/v1/fal-ai/flux/dev",
}
SERVICES = sorted(MODELS)
IMAGE = "https://delivery.bfl.ai/out.png"
#: Every documented status, and what the caller gets for it.
ENDS: dict[str, dict[str, type[LLMError]]] = {
    "bfl": {
        "Error": ServerError,
        "Failed": ServerError,
        "Request Moderated": ContentPolicyError,
        "Content Moderated": ContentPolicyError,
        "Task not found": NotFoundError,
    },
    "replicate": {"failed": ServerError, "canceled": ProviderError, "aborted": ProviderError},
    "fal": {"FAILED": ServerError, "CANCELED": ProviderError},
}
WAITS = {
    "bfl": ["Pending", "Queued", "Processing", "Something new"],
    "replicate": ["starting", "processing", "Something new"],
    "fal": ["IN_QUEUE", "IN_PROGRESS", "Something new"],
}
DONE = {"bfl": "Ready", "replicate": "succeeded", "fal": "COMPLETED"}


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick():
        yield


def accepted(server: FaultServer, service: str, **more: Any) -> Behaviour:
    at = f"{server.url}/{service}/job"
    if service == "bfl":
        return status(200, {"id": "job-1", "polling_url": f"{at}/status?id=job-1", "cost": 4, **more})
    if service == "replicate":
        urls = {"get": f"{at}/status", "cancel": f"{at}/cancel"}
        return status(201, {"id": "job-1", "status": "starting", "urls": urls, **more})
    urls = {"status_url": f"{at}/status", "response_url": f"{at}/result", "cancel_url": f"{at}/cancel"}
    return status(200, {"request_id": "job-1", "queue_position": 0, **urls, **more})


def said(service: str, word: str, **more: Any) -> Behaviour:
    return status(200, {"id": "job-1", "status": word, **more})


def finished(service: str, image: str = IMAGE) -> Behaviour:
    if service == "bfl":
        return said(service, "Ready", result={"sample": image, "prompt": "x", "seed": 1})
    if service == "replicate":
        return said(service, "succeeded", output=[image], metrics={"predict_time": 1.2})
    return said(service, "COMPLETED")


def serve(server: FaultServer, service: str, looks: list[Behaviour], submit: list[Behaviour] | None = None) -> None:
    server.route(SUBMIT[service], submit or [accepted(server, service)])
    server.route(f"/{service}/job/status", looks)
    server.route(f"/{service}/job/cancel", [status(202, {"status": "CANCELLATION_REQUESTED"})])
    server.route(f"/{service}/job/result", [status(200, {"images": [{"url": IMAGE, "content_type": "image/png"}]})])


def ask(server: FaultServer, model: str, events: list[Any] | None = None, **options: Any) -> LLMResponse:
    async def main() -> LLMResponse:
        async with client(server) as llm:
            if events is not None:
                llm.on_event(events.append)
            messages = options.pop("messages", "a red cube")
            found: LLMResponse = await llm.query(model, messages, **options)
            return found

    return asyncio.run(main())


def submissions(server: FaultServer) -> int:
    return sum(seen.method == "POST" and not seen.path.endswith("cancel") for seen in server.requests)


# -- what goes well -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_a_job_is_submitted_once_and_asked_after_until_it_is_done(service: str, fault_server: FaultServer) -> None:
    serve(fault_server, service, [*(said(service, word, progress=0.5) for word in WAITS[service]), finished(service)])
    events: list[Any] = []
    response = ask(fault_server, MODELS[service], events)
    assert [image.url for image in response.images] == [IMAGE]
    assert (response.content, response.provider, response.request_id) == (IMAGE, service, "job-1")
    assert [(a.outcome, a.request_id) for a in response.attempts] == [("ok", "job-1")]
    assert submissions(fault_server) == 1
    looks = [seen for seen in fault_server.requests if "/status" in seen.path]
    assert [seen.method for seen in looks] == ["GET"] * (len(WAITS[service]) + 1)
    words = [event.status for event in events if event.name == "progress"]
    assert words[-len(WAITS[service]) - 1 :] == [*WAITS[service], DONE[service]]
    assert [e.name for e in events if e.name != "progress"] == ["start", "attempt", "end"]
    header, scheme = {
        "bfl": ("x-key", ""),
        "replicate": ("authorization", "Bearer "),
        "fal": ("authorization", "Key "),
    }[service]
    assert {seen.header(header) for seen in fault_server.requests} == {scheme + KEY}


def test_the_cost_of_flux_is_what_its_answer_reports(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [finished("bfl")])
    response = ask(fault_server, MODELS["bfl"], width=1024, height=768)
    assert response.cost == response.reported_cost == Decimal("0.04")
    assert fault_server.requests[0].json == {"prompt": "a red cube", "width": 1024, "height": 768}


def test_a_cost_that_nobody_reports_is_the_price_of_an_image(fault_server: FaultServer) -> None:
    serve(fault_server, "replicate", [finished("replicate")])
    assert ask(fault_server, MODELS["replicate"]).cost == Decimal("0.003")


def test_a_cost_that_nobody_knows_is_none_and_not_zero(fault_server: FaultServer) -> None:
    serve(fault_server, "fal", [finished("fal")])
    assert ask(fault_server, MODELS["fal"]).cost is None, "it is billed by the size, which the answer does not tell"


def test_progress_is_told_as_the_service_counts_it(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [said("bfl", "Pending", progress=share) for share in (0.1, 0.6)] + [finished("bfl")])
    events: list[Any] = []
    ask(fault_server, MODELS["bfl"], events)
    told = [(event.status, event.progress, event.target) for event in events if event.name == "progress"]
    assert told == [("Pending", 0.1, MODELS["bfl"]), ("Pending", 0.6, MODELS["bfl"]), ("Ready", None, MODELS["bfl"])]


def test_a_submission_that_is_done_at_once_is_not_asked_after(fault_server: FaultServer) -> None:
    done = accepted(fault_server, "replicate", status="succeeded", output="https://replicate.delivery/a.webp")
    serve(fault_server, "replicate", [finished("replicate")], [done])
    assert ask(fault_server, MODELS["replicate"]).content == "https://replicate.delivery/a.webp"
    assert len(fault_server.requests) == 1


def test_several_images_come_all(fault_server: FaultServer) -> None:
    urls = [f"https://replicate.delivery/{number}.png" for number in range(3)]
    serve(fault_server, "replicate", [said("replicate", "succeeded", output=urls)])
    response = ask(fault_server, MODELS["replicate"], n=3)
    assert [image.url for image in response.images] == urls
    assert fault_server.requests[0].json == {"input": {"prompt": "a red cube", "num_outputs": 3}}


def test_an_image_inside_the_result_becomes_bytes(fault_server: FaultServer) -> None:
    serve(fault_server, "fal", [finished("fal")])
    fault_server.route("/fal/job/result", [status(200, {"images": [{"url": DATA_URI, "content_type": "image/png"}]})])
    (image,) = ask(fault_server, MODELS["fal"]).images
    assert (image.data, image.mime_type, image.url) == (PNG, "image/png", None)


def test_a_result_in_an_unknown_place_is_noted(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [finished("bfl", "https://elsewhere.example/x.png")])
    assert ask(fault_server, MODELS["bfl"]).notes == (
        "an image lies on elsewhere.example, which is not known as a place of bfl's results",
    )


@pytest.mark.parametrize("address", ["https://[bad", "https:///a.png", "https://elsewhere.example:99999/a.png"])
def test_an_address_that_cannot_be_read_loses_no_other_image(address: str, fault_server: FaultServer) -> None:
    result = {"samples": [IMAGE, address]}
    serve(fault_server, "bfl", [said("bfl", "Ready", result=result)])
    found = ask(fault_server, MODELS["bfl"])
    assert [image.url for image in found.images] == [IMAGE, address]
    assert found.notes == ("an image lies on no host that can be read, which is not known as a place of bfl's results",)


def test_the_class_of_the_guide_is_the_row(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [finished("bfl")])
    config = LLMConfig(bfl_api_key=KEY, base_urls={"bfl": fault_server.url + "/bfl/v1"})

    async def main() -> LLMResponse:
        provider = BFLProvider(config)
        try:
            return await provider.generate([{"role": "user", "content": "a cat"}], "flux-pro-1.1", width=512)
        finally:
            await provider.aclose()

    assert asyncio.run(main()).content == IMAGE
    assert fault_server.requests[0].json == {"prompt": "a cat", "width": 512}


# -- how a job is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path", "params", "body"),
    [
        ("flux-2-pro", "/bfl/v1/flux-2-pro", {"size": "1024x768"}, {"width": 1024, "height": 768}),
        ("flux-kontext-pro", "/bfl/v1/flux-kontext-pro", {"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9"}),
        ("flux-pro-1.1", "/bfl/v1/flux-pro-1.1", {"n": 1, "seed": 7}, {"seed": 7}),
        ("fal-ai/flux/dev", "/fal/v1/fal-ai/flux/dev", {"n": 2}, {"num_images": 2}),
        (
            "fal-ai/flux/dev",
            "/fal/v1/fal-ai/flux/dev",
            {"size": "512x512", "extra_body": {"sync_mode": True}},
            {"image_size": {"width": 512, "height": 512}, "sync_mode": True},
        ),
        ("fal-ai/flux/dev", "/fal/v1/fal-ai/flux/dev", {"image_size": "square_hd"}, {"image_size": "square_hd"}),
    ],
)
def test_parameters_become_the_service_s_own(
    model: str, path: str, params: dict[str, Any], body: dict[str, Any], fault_server: FaultServer
) -> None:
    service = path.split("/")[1]
    serve(fault_server, service, [finished(service)])
    fault_server.route(path, [accepted(fault_server, service)])
    ask(fault_server, model, **params)
    assert fault_server.requests[0].path == path
    assert fault_server.requests[0].json == {"prompt": "a red cube", **body}


def test_a_version_of_a_model_goes_to_its_own_path(fault_server: FaultServer) -> None:
    serve(fault_server, "replicate", [finished("replicate")])
    fault_server.route("/replicate/v1/predictions", [accepted(fault_server, "replicate")])
    ask(fault_server, "replicate/owner/name:abc123", webhook="https://me.example/hook", steps=4)
    assert fault_server.requests[0].path == "/replicate/v1/predictions"
    assert fault_server.requests[0].json == {
        "version": "abc123",
        "webhook": "https://me.example/hook",
        "input": {"prompt": "a red cube", "steps": 4},
    }


PICTURE = [{"role": "user", "content": [{"type": "text", "text": "make it blue"}, {"type": "image", "data": PNG}]}]
TWO = [{"role": "user", "text": "join them", "images": [PNG, "https://x.example/b.png"]}]


@pytest.mark.parametrize(
    ("model", "path", "messages", "body"),
    [
        ("flux-kontext-pro", "/bfl/v1/flux-kontext-pro", PICTURE, {"input_image": PNG64}),
        (
            "flux-2-pro",
            "/bfl/v1/flux-2-pro",
            TWO,
            {"input_image": PNG64, "input_image_2": "https://x.example/b.png"},
        ),
        ("fal-ai/flux/dev", "/fal/v1/fal-ai/flux/dev", PICTURE, {"image_url": DATA_URI}),
        (
            "fal-ai/nano-banana/edit",
            "/fal/v1/fal-ai/nano-banana/edit",
            TWO,
            {"image_urls": [DATA_URI, "https://x.example/b.png"]},
        ),
    ],
)
def test_pictures_to_change(
    model: str, path: str, messages: Any, body: dict[str, Any], fault_server: FaultServer
) -> None:
    service = path.split("/")[1]
    serve(fault_server, service, [finished(service)])
    fault_server.route(path, [accepted(fault_server, service)])
    ask(fault_server, model, messages=messages)
    sent = fault_server.requests[0].json
    del sent["prompt"]
    assert sent == body


# -- what no service could take: nothing is sent ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "params", "parameter"),
    [
        ("flux-pro-1.1", {"n": 2}, "n"),
        ("flux-pro-1.1", {"temperature": 0.5}, "temperature"),
        ("flux-pro-1.1", {"width": 20_000}, "width"),
        ("flux-pro-1.1", {"size": "1000x1000"}, "size"),
        ("flux-pro-1.1", {"size": "big"}, "size"),
        ("flux-pro-1.1", {"output_format": "tiff"}, "output_format"),
        ("flux-kontext-pro", {"size": "1024x1024"}, "size"),
        ("flux-pro-1.1-ultra", {"width": 1024}, "width"),
        ("replicate/black-forest-labs/flux-1.1-pro", {"n": 2}, "n"),
        ("replicate/black-forest-labs/flux-schnell", {"n": 9}, "n"),
        ("fal-ai/flux/dev", {"n": 5}, "n"),
    ],
)
def test_what_a_model_cannot_take_is_refused_by_name_or_dropped(
    model: str, params: dict[str, Any], parameter: str, fault_server: FaultServer
) -> None:
    with pytest.raises(UnsupportedParameterError, match=rf"does not take {parameter}\b") as caught:
        ask(fault_server, model, **params)
    assert caught.value.parameter == parameter
    assert fault_server.requests == []
    for service in SERVICES:
        serve(fault_server, service, [finished(service)])
        fault_server.route(f"/{service}/v1", [accepted(fault_server, service)])
    response = ask(fault_server, model, drop_params=True, **params)
    assert response.dropped == (parameter,)


@pytest.mark.parametrize(
    ("model", "messages", "match"),
    [
        ("flux-pro-1.1", [{"role": "user", "content": " "}], "needs a prompt"),
        ("flux-pro-1.1", TWO, r"was given 2 images and takes 1 at most"),
        ("fal-ai/flux/../other", "x", "no model's name"),
        (
            "flux-pro-1.1",
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}],
            "takes no part of type 'input_audio'",
        ),
    ],
)
def test_bad_input_is_an_error_before_any_request(
    model: str, messages: Any, match: str, fault_server: FaultServer
) -> None:
    with pytest.raises(InvalidRequestError, match=match):
        ask(fault_server, model, messages=messages)
    assert fault_server.requests == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_stream_is_refused_before_any_request(service: str, fault_server: FaultServer) -> None:
    with pytest.raises(ProviderError, match="cannot stream"):
        ask(fault_server, MODELS[service], stream=True)
    assert fault_server.requests == []


# -- how jobs end badly -------------------------------------------------------------------------------------------


def test_every_status_that_a_row_documents_is_tried_here() -> None:
    for service in SERVICES:
        row = row_of(service)
        documented = set(dialect_of(row, "polling").statuses)
        assert documented == {*ENDS[service], *WAITS[service], DONE[service]} - {"Something new"}


@pytest.mark.parametrize(("service", "word"), [(s, word) for s in SERVICES for word in ENDS[s]])
def test_a_job_that_ends_badly_is_a_typed_error_and_is_not_submitted_again(
    service: str, word: str, fault_server: FaultServer
) -> None:
    reason = {"bfl": {"details": {"reason": "too blue"}}}.get(service, {"error": "too blue"})
    serve(fault_server, service, [said(service, WAITS[service][0]), said(service, word, **reason)])
    with pytest.raises(ENDS[service][word]) as caught:
        ask(fault_server, MODELS[service])
    error = caught.value
    assert isinstance(error, ProviderError)
    assert (error.provider, error.retryable, error.request_id) == (service, False, "job-1")
    assert word in str(error) or "too blue" in str(error)
    assert "\n" not in str(error)
    assert submissions(fault_server) == 1
    assert len(error.attempts) == 1


def test_a_job_not_yet_known_everywhere_is_waited_for(fault_server: FaultServer) -> None:
    unknown = said("bfl", "Task not found")
    serve(fault_server, "bfl", [unknown, status(404, {"detail": "Task not found"}), unknown, finished("bfl")])
    assert ask(fault_server, MODELS["bfl"]).content == IMAGE
    assert submissions(fault_server) == 1


def test_a_failure_by_policy_is_told_from_another(fault_server: FaultServer) -> None:
    serve(fault_server, "replicate", [said("replicate", "failed", error="NSFW content detected. Try another prompt.")])
    with pytest.raises(ContentPolicyError, match="NSFW content detected"):
        ask(fault_server, MODELS["replicate"])


def test_a_refusal_falls_back_where_the_caller_lets_it(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [said("bfl", "Content Moderated")])
    serve(fault_server, "fal", [finished("fal")])
    with pytest.raises(ContentPolicyError):
        ask(fault_server, MODELS["bfl"], fallback_model=MODELS["fal"])
    response = ask(fault_server, MODELS["bfl"], fallback_model=MODELS["fal"], fallback_on={"content_policy"})
    assert [(a.provider, a.outcome) for a in response.attempts] == [("bfl", "error"), ("fal", "ok")]


def test_a_completed_job_of_fal_may_hold_an_error(fault_server: FaultServer) -> None:
    failed = said("fal", "COMPLETED", error="the runner is gone", error_type="internal_server_error")
    serve(fault_server, "fal", [failed])
    with pytest.raises(ServerError, match="the runner is gone"):
        ask(fault_server, MODELS["fal"])
    assert submissions(fault_server) == 1


@pytest.mark.parametrize(
    ("code", "detail", "kind"),
    [
        (422, [{"loc": ["body"], "msg": "flagged", "type": "content_policy_violation"}], ContentPolicyError),
        (422, [{"loc": ["body", "seed"], "msg": "not a number", "type": "int_parsing"}], BadRequestError),
        (500, [{"loc": ["body"], "msg": "broken", "type": "internal_server_error"}], ServerError),
        (422, "nothing to draw", BadRequestError),
    ],
)
def test_a_result_of_fal_may_be_an_error(
    code: int, detail: Any, kind: type[ProviderError], fault_server: FaultServer
) -> None:
    serve(fault_server, "fal", [finished("fal")])
    fault_server.route("/fal/job/result", [status(code, {"detail": detail})])
    with pytest.raises(kind) as caught:
        ask(fault_server, MODELS["fal"])
    assert caught.value.retryable is False
    assert submissions(fault_server) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_a_result_without_an_image(service: str, fault_server: FaultServer) -> None:
    serve(fault_server, service, [said(service, DONE[service], output=None, result=None)])
    fault_server.route(f"/{service}/job/result", [status(200, {"images": []})])
    with pytest.raises(ResponseError, match="without an image"):
        ask(fault_server, MODELS[service])
    assert submissions(fault_server) == 1


# -- submitting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_a_submission_that_was_not_taken_is_made_again(service: str, fault_server: FaultServer) -> None:
    serve(fault_server, service, [finished(service)], [status(503), status(429), accepted(fault_server, service)])
    response = ask(fault_server, MODELS[service])
    assert [a.outcome for a in response.attempts] == ["error", "error", "ok"]
    assert submissions(fault_server) == 3


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (401, {"detail": "no such key"}, AuthenticationError),
        (402, {"detail": "Insufficient credits"}, QuotaExceededError),
        (422, {"detail": [{"loc": ["body", "width"], "msg": "too wide", "type": "value_error"}]}, BadRequestError),
    ],
)
@pytest.mark.parametrize("service", SERVICES)
def test_a_submission_that_is_refused(
    service: str, code: int, body: Any, kind: type[ProviderError], fault_server: FaultServer
) -> None:
    serve(fault_server, service, [finished(service)], [status(code, body)])
    with pytest.raises(kind, match=service):
        ask(fault_server, MODELS[service])
    assert submissions(fault_server) == 1


def test_a_key_echoed_by_the_service_is_masked(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [said("bfl", "Error", details={"key": KEY})])
    with pytest.raises(ServerError) as caught:
        ask(fault_server, MODELS["bfl"])
    assert KEY not in str(caught.value)
    assert KEY not in str(caught.value.body)


@pytest.mark.parametrize("service", SERVICES)
def test_an_answer_that_names_no_address_is_not_submitted_again(service: str, fault_server: FaultServer) -> None:
    serve(fault_server, service, [finished(service)], [status(200, {"id": "job-1"})])
    with pytest.raises(ResponseError, match="did not say where to ask"):
        ask(fault_server, MODELS[service])
    assert submissions(fault_server) == 1


@pytest.mark.parametrize(
    "foreign",
    [
        "https://bfl.ai.evil.example/v1/get_result?id=1",
        "https://evilbfl.ai/x",
        "http://api.bfl.ai/v1/get_result?id=1",
        "https://user@evil.example/",
        "ftp://api.bfl.ai/x",
        "/relative",
        "http://127.0.0.1:1/x",
    ],
)
def test_a_foreign_polling_url_never_gets_the_key(foreign: str, fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [finished("bfl")], [accepted(fault_server, "bfl", polling_url=foreign)])
    with pytest.raises(ResponseError, match="the key was not sent there"):
        ask(fault_server, MODELS["bfl"])
    assert jobs(fault_server) == [("POST", SUBMIT["bfl"])]


def test_a_foreign_server_sees_nothing(fault_server: FaultServer) -> None:
    with FaultServer() as other:
        moved = {"status_url": f"{other.url}/status", "response_url": f"{other.url}/result"}
        serve(fault_server, "fal", [finished("fal")], [accepted(fault_server, "fal", **moved)])
        with pytest.raises(ResponseError, match="not an address of fal"):
            ask(fault_server, MODELS["fal"])
        assert other.requests == []


# -- asking after a job -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        status(429, {"detail": "slow down"}),
        status(429, {"detail": "slow down"}, [("Retry-After", "0.002")]),
        status(500),
        status(503, "down", content_type="text/html"),
        status(200, "<html>", content_type="text/html"),
        reset,
        close,
    ],
    ids=["429", "429-after", "500", "503", "html", "reset", "close"],
)
@pytest.mark.parametrize("service", SERVICES)
def test_trouble_while_asking_leads_to_another_look_and_never_to_another_job(
    service: str, trouble: Behaviour, fault_server: FaultServer
) -> None:
    serve(fault_server, service, [trouble, trouble, finished(service)])
    response = ask(fault_server, MODELS[service])
    assert response.content == IMAGE
    assert submissions(fault_server) == 1
    assert len(response.attempts) == 1


def test_retry_after_is_waited_for(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [status(429, {}, [("Retry-After", "0.05")]), finished("bfl")])
    ask(fault_server, MODELS["bfl"])
    first, second = (seen.time for seen in fault_server.requests if "/status" in seen.path)
    assert second - first >= 0.05


def test_a_long_retry_after_does_not_outlast_patience(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_PATIENCE", 0.01)
    serve(fault_server, "bfl", [status(429, {}, [("Retry-After", "3600")])])

    async def main() -> None:
        async with client(fault_server, timeouts=Timeouts(total=None)) as llm, asyncio.timeout(20):
            await llm.query(MODELS["bfl"], "a red cube")

    with pytest.raises(APITimeoutError, match="did not finish the job"):
        asyncio.run(main())


def test_a_key_that_is_refused_while_asking_ends_the_call(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [status(403, {"detail": "not yours"})])
    with pytest.raises(AuthenticationError):
        ask(fault_server, MODELS["bfl"])
    assert submissions(fault_server) == 1


def test_the_result_is_fetched_again_after_trouble(fault_server: FaultServer) -> None:
    serve(fault_server, "fal", [finished("fal")])
    good = status(200, {"images": [{"url": IMAGE}]})
    fault_server.route("/fal/job/result", [status(503), reset, good])
    assert ask(fault_server, MODELS["fal"]).content == IMAGE
    assert submissions(fault_server) == 1


# -- time and cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_the_deadline_ends_the_call_and_the_job(service: str, fault_server: FaultServer) -> None:
    serve(fault_server, service, [said(service, WAITS[service][0])])
    with pytest.raises(APITimeoutError, match=rf"did not finish the job .*{WAITS[service][0]}"):
        ask(fault_server, MODELS[service], timeout=0.2)
    cancelled = [seen.method for seen in fault_server.requests if seen.path.endswith("/cancel")]
    assert cancelled == {"bfl": [], "replicate": ["POST"], "fal": ["PUT"]}[service]
    assert submissions(fault_server) == 1


def test_time_that_is_over_goes_to_the_fallback(fault_server: FaultServer) -> None:
    serve(fault_server, "bfl", [said("bfl", "Pending")])
    serve(fault_server, "fal", [finished("fal")])
    response = ask(fault_server, MODELS["bfl"], fallback_model=MODELS["fal"], timeout=2.0)
    assert [(a.provider, a.error) for a in response.attempts] == [("bfl", "APITimeoutError"), ("fal", None)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_caller_who_gives_up_cancels_the_job(service: str, fault_server: FaultServer) -> None:
    serve(fault_server, service, [hold()])

    async def main() -> None:
        async with client(fault_server) as llm:
            task = asyncio.create_task(llm.query(MODELS[service], "a red cube"))
            await asyncio.to_thread(fault_server.wait_held)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    cancelled = [seen.method for seen in fault_server.requests if seen.path.endswith("/cancel")]
    assert cancelled == {"bfl": [], "replicate": ["POST"], "fal": ["PUT"]}[service]


@pytest.mark.parametrize("trouble", [status(404), status(500), reset], ids=["404", "500", "reset"])
def test_cancelling_in_vain_changes_nothing(trouble: Behaviour, fault_server: FaultServer) -> None:
    serve(fault_server, "fal", [said("fal", "IN_QUEUE")])
    fault_server.route("/fal/job/cancel", [trouble])
    with pytest.raises(APITimeoutError, match="did not finish"):
        ask(fault_server, MODELS["fal"], timeout=0.1)


def test_limits_and_breaker_hold_for_jobs_too(fault_server: FaultServer) -> None:
    from llm_master import Limit

    serve(fault_server, "bfl", [finished("bfl")])

    async def main() -> None:
        async with client(fault_server, limits=[Limit("provider:bfl", rpm=1)]) as llm:
            await llm.query(MODELS["bfl"], "one")
            with pytest.raises(RateLimitError):
                await llm.query(MODELS["bfl"], "two", limit_wait=0)
            (health,) = llm.health()[MODELS["bfl"]]
            assert health.inflight == 0

    asyncio.run(main())
    assert submissions(fault_server) == 1


@pytest.mark.parametrize("change", [{"statuses": {"Ready": "finished"}}, {"cancel_method": "DELETE"}, {"pol": "x"}])
def test_a_wrong_dialect_is_told(change: dict[str, Any], fault_server: FaultServer) -> None:
    table = UnifiedProvider.PROVIDER_CONFIGS
    table["bfl"] = {**table["bfl"], "polling": {**table["bfl"]["polling"], **change}}
    with pytest.raises(ValueError, match="its polling dialect is wrong"):
        ask(fault_server, MODELS["bfl"])
