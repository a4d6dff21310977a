"""
Transcripts, speech, moderation and counts of tokens: what is sent, what comes back, and what is refused before.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from decimal import Decimal
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok, status
from support.exchange import Behaviour
from support.fault_server import FaultServer

from llm_master import (
    ConfigurationError,
    ContentModerationError,
    ContentPolicyError,
    InvalidRequestError,
    LLMConfig,
    QueryLLM,
    ResponseError,
    RetryPolicy,
    UnsupportedParameterError,
)
from llm_master.policy.limits import MemoryLimiter

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256))
MP3 = b"ID3\x04\x00sound"
KEYS = {f"{name}_api_key": f"sk-{name}-0123456789" for name in ("openai", "anthropic", "cohere", "mistral", "groq")}
KEYS["gemini_api_key"] = "AIzaTest0123456789"


def client(server: FaultServer, **urls: str) -> QueryLLM:
    paths = {"openai": "/v1", "anthropic": "/v1", "mistral": "/v1", "groq": "/openai/v1", "gemini": "/v1beta", **urls}
    config = LLMConfig(**KEYS, base_urls={name: server.url + path for name, path in paths.items()})
    return QueryLLM(config, retry=RetryPolicy(base_delay=0.001), limiter=MemoryLimiter())


def ask(server: FaultServer, method: str, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with client(server) as llm:
            return await getattr(llm, method)(*args, **kwargs)

    return asyncio.run(main())


def raw(data: bytes, content_type: str) -> Behaviour:
    """Bytes as they are, for answers that are no JSON."""

    return status(200, data, content_type=content_type)


def parts_of(seen: Any) -> dict[str, Any]:
    """The fields of a form, read by the standard library: texts, lists of them, and (file name, mime type, bytes)."""
    head = f"Content-Type: {seen.header('Content-Type')}\r\n\r\n".encode()
    found: dict[str, Any] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + seen.body).iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        data = part.get_payload(decode=True)
        if part.get_filename():
            found[name] = (part.get_filename(), part.get_content_type(), data)
        elif name.endswith("[]"):
            found.setdefault(name, []).append(data.decode())
        else:
            found[name] = data.decode()
    return found


# Transcripts ----------------------------------------------------------------------------------------------------------

VERBOSE = {
    "task": "transcribe",
    "text": "Hello there.",
    "language": "english",
    "duration": 1.5,
    "segments": [{"id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": "Hello there.", "tokens": [1], "speaker": "A"}],
    "words": [{"word": "Hello", "start": 0.0, "end": 0.6}, {"word": "there", "start": 0.6, "end": 1.2}],
    "usage": {"type": "duration", "seconds": 2},
}


def test_a_recording_is_sent_as_a_form_and_read_whole(fault_server: FaultServer) -> None:
    fault_server.route("/v1/audio/transcriptions", [status(200, VERBOSE)])
    found = ask(
        fault_server,
        "transcribe",
        "openai/whisper-1",
        WAV,
        language="en",
        prompt="Grüße",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        temperature=0.5,
    )
    assert (found.text, found.language, found.duration) == ("Hello there.", "english", 1.5)
    assert [(s.text, s.start, s.end, s.speaker) for s in found.segments] == [("Hello there.", 0.0, 1.5, "A")]
    assert [(w.word, w.start, w.end) for w in found.words] == [("Hello", 0.0, 0.6), ("there", 0.6, 1.2)]
    assert found.raw["task"] == "transcribe"
    assert found.cost == Decimal("0.0002"), "2 seconds, as its usage says, of 0.36 USD an hour"
    assert [a.outcome for a in found.attempts] == ["ok"]
    (seen,) = fault_server.requests
    assert parts_of(seen) == {
        "model": "whisper-1",
        "language": "en",
        "prompt": "Grüße",
        "response_format": "verbose_json",
        "timestamp_granularities[]": ["word", "segment"],
        "temperature": "0.5",
        "file": ("audio.wav", "audio/wav", WAV),
    }
    assert seen.header("Authorization") == f"Bearer {KEYS['openai_api_key']}"


def test_paths_files_and_bytes_are_one(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.route("/v1/audio/transcriptions", [status(200, {"text": "a"})])
    path = tmp_path / 'my "talk".mp3'
    path.write_bytes(MP3)
    with path.open("rb") as file:
        given = [path, str(path), file, io.BytesIO(MP3), bytearray(MP3)]
        for audio in given:
            assert ask(fault_server, "transcribe", "openai/whisper-1", audio).text == "a"
    names = [parts_of(seen)["file"] for seen in fault_server.requests]
    assert [name[1:] for name in names] == [("audio/mpeg", MP3)] * 5
    assert [name[0] for name in names] == ["my %22talk%22.mp3"] * 3 + ["audio.mp3"] * 2


def test_tokens_of_a_transcript_are_counted_and_priced(fault_server: FaultServer) -> None:
    used = {"type": "tokens", "input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
    used["input_token_details"] = {"audio_tokens": 90, "text_tokens": 10}  # type: ignore[assignment]  # as sent
    fault_server.route("/v1/audio/transcriptions", [status(200, {"text": "a", "usage": used})])
    found = ask(fault_server, "transcribe", "gpt-4o-transcribe", WAV)
    assert (found.usage.input_tokens, found.usage.input_audio_tokens, found.usage.output_tokens) == (100, 90, 10)
    assert found.cost is not None
    assert found.cost > 0


@pytest.mark.parametrize("wanted", ["text", "srt", "vtt"])
def test_subtitles_are_text_as_it_is(wanted: str, fault_server: FaultServer) -> None:
    fault_server.route("/v1/audio/transcriptions", [raw("1\n00:00 --> 00:01\nGrüße\n".encode(), "text/plain")])
    found = ask(fault_server, "transcribe", "openai/whisper-1", WAV, response_format=wanted)
    assert (found.text, found.raw) == ("1\n00:00 --> 00:01\nGrüße\n", None)


def test_words_of_mistral_stand_in_its_segments_and_seconds_in_its_usage(fault_server: FaultServer) -> None:
    segment = {"start": 0, "end": 1, "text": "Hi", "speaker_id": "S1", "words": [{"text": "Hi", "start": 0, "end": 1}]}
    answer = {"model": "voxtral-mini-2602", "text": "Hi", "language": "en", "segments": [segment]}
    used = {"prompt_audio_seconds": 7, "prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    fault_server.route("/v1/audio/transcriptions", [status(200, {**answer, "usage": used})])
    found = ask(fault_server, "transcribe", "voxtral-mini-latest", WAV)
    assert [word.word for word in found.words] == ["Hi"]
    assert (found.duration, found.segments[0].speaker, found.usage.total_tokens) == (7, "S1", 6)
    with pytest.raises(UnsupportedParameterError, match="mistral does not take prompt="):
        ask(fault_server, "transcribe", "voxtral-mini-latest", WAV, prompt="x")
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (b"", "is empty"),
        (b"no sound at all", "begins like no known format"),
        (7, "audio is a int"),
        ("https://example.com/a.mp3", "download it"),
        ("/nowhere/a.mp3", "'a.mp3' cannot be read: FileNotFoundError"),
        (io.StringIO("x"), "open it with 'rb'"),
    ],
)
def test_no_recording_is_refused_before_any_request(audio: Any, says: str, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        ask(fault_server, "transcribe", "openai/whisper-1", audio)
    assert fault_server.requests == []


def test_a_recording_over_the_providers_limit_goes_to_a_fallback_that_takes_it(fault_server: FaultServer) -> None:
    fault_server.route("/openai/v1/audio/transcriptions", [status(200, {"text": "long"})])
    large = WAV + bytes(26 * 1024 * 1024)
    with pytest.raises(UnsupportedParameterError, match="openai takes recordings up to 25 MiB"):
        ask(fault_server, "transcribe", "openai/whisper-1", large)
    assert fault_server.requests == []
    found = ask(fault_server, "transcribe", "openai/whisper-1", large, fallback_model="groq/whisper-large-v3")
    assert (found.text, found.provider) == ("long", "groq")
    assert [a.outcome for a in found.attempts] == ["skipped", "ok"]


@pytest.mark.parametrize(
    "answer", [raw(b"<html>", "text/html"), status(200, {"txt": 1}), status(200, {"error": {"message": "x"}})]
)
def test_an_answer_that_is_no_transcript_is_an_error(answer: Behaviour, fault_server: FaultServer) -> None:
    fault_server.route("/v1/audio/transcriptions", [answer])
    with pytest.raises(Exception, match="openai") as caught:
        ask(fault_server, "transcribe", "openai/whisper-1", WAV, max_attempts=1)
    assert getattr(caught.value, "provider", None) == "openai"


# Speech ---------------------------------------------------------------------------------------------------------------


def test_speech_is_bytes_that_can_be_saved(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.route("/v1/audio/speech", [status(503, {"error": {"message": "busy"}}), raw(MP3, "audio/mpeg")])
    found = ask(fault_server, "speak", "gpt-4o-mini-tts", "Hello.", voice="alloy", format="mp3", speed=1.5)
    assert (found.audio, found.mime_type) == (MP3, "audio/mpeg")
    assert found.save(tmp_path / "a.mp3").read_bytes() == MP3
    assert [a.status_code for a in found.attempts] == [503, 200]
    assert fault_server.requests[1].json == {
        "model": "gpt-4o-mini-tts",
        "input": "Hello.",
        "voice": "alloy",
        "response_format": "mp3",
        "speed": 1.5,
    }
    assert "sound" not in repr(found)
    assert found.cost is None


def test_the_bytes_tell_the_format_before_the_header(fault_server: FaultServer) -> None:
    fault_server.route("/v1/audio/speech", [raw(WAV, "application/octet-stream"), raw(b"\x01\x02", "audio/pcm")])
    assert ask(fault_server, "speak", "openai/tts-1", "a", voice="alloy").mime_type == "audio/wav"
    assert ask(fault_server, "speak", "openai/tts-1", "a", voice="alloy").mime_type == "audio/pcm"


@pytest.mark.parametrize(
    "answer",
    [raw(b"", "audio/mpeg"), raw(b"<html>", "text/html"), status(200, {"a": 1}), raw(b"{", "application/json")],
)
def test_an_answer_that_is_no_sound_is_an_error(answer: Behaviour, fault_server: FaultServer) -> None:
    fault_server.route("/v1/audio/speech", [answer])
    with pytest.raises(ResponseError, match="is no sound"):
        ask(fault_server, "speak", "openai/tts-1", "a", voice="alloy", max_attempts=1)


@pytest.mark.parametrize(("text", "voice"), [("", "alloy"), (3, "alloy"), ("a", ""), ("a", None)])
def test_nothing_to_say_and_no_voice_are_refused(text: Any, voice: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError):
        ask(fault_server, "speak", "openai/tts-1", text, voice=voice)
    assert fault_server.requests == []


# Moderation -----------------------------------------------------------------------------------------------------------


def verdict(**categories: float) -> dict[str, Any]:
    applies = {name: score > 0.5 for name, score in categories.items()}
    return {"flagged": any(applies.values()), "categories": applies, "category_scores": categories}


def test_verdicts_are_typed(fault_server: FaultServer) -> None:
    results = [verdict(hate=0.1, violence=0.9), verdict(hate=0.2, violence=0.0)]
    results[0]["categories"]["illicit"] = None
    fault_server.route("/v1/moderations", [status(200, {"model": "omni-2026", "results": results})])
    found = ask(fault_server, "moderate", ["a", "b"])
    assert fault_server.requests[0].json == {"model": "omni-moderation-latest", "input": ["a", "b"]}
    assert [each.flagged for each in found.results] == [True, False]
    assert found.results[0].flagged_categories == ("violence",)
    assert found.flagged
    assert found.categories == {"hate": False, "violence": True}
    assert found.scores == {"hate": 0.2, "violence": 0.9}
    assert found.cost == 0, "moderation is free, as the table of prices says"


def test_mistral_leaves_flagged_out(fault_server: FaultServer) -> None:
    results = [{"categories": {"pii": True, "law": False}, "category_scores": {"pii": 0.9, "law": 0.1}}]
    fault_server.route("/v1/moderations", [status(200, {"model": "m", "results": results})])
    assert ask(fault_server, "moderate", "a", model_name="mistral-moderation-latest").flagged


def test_an_input_without_a_verdict_never_looks_harmless(fault_server: FaultServer) -> None:
    fault_server.route("/v1/moderations", [status(200, {"results": [verdict(hate=0.1)]})])
    with pytest.raises(ResponseError, match="1 verdicts for 2 inputs"):
        ask(fault_server, "moderate", ["a", "b"], max_attempts=1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_flagged_message_is_not_sent(stream: bool, fault_server: FaultServer) -> None:
    fault_server.route("/v1/moderations", [status(200, {"results": [verdict(hate=0.9, violence=0.1)]})])
    told: list[Any] = []

    async def main() -> None:
        async with client(fault_server) as llm:
            llm.on_event(told.append)
            messages = [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": [{"type": "text", "text": "second"}]},
            ]
            await llm.query("openai/gpt-4o-mini", messages, moderation=True, stream=stream)

    with pytest.raises(ContentPolicyError, match=r"'openai/gpt-4o-mini' \(hate\); nothing was sent") as caught:
        asyncio.run(main())
    assert isinstance(caught.value, ContentModerationError)
    assert caught.value.categories == ("hate",)
    assert [(seen.path, seen.json["input"]) for seen in fault_server.requests] == [("/v1/moderations", ["second"])]
    ends = [(event.model_name, event.outcome) for event in told if event.name == "end"]
    assert ends == [("omni-moderation-latest", "ok"), ("openai/gpt-4o-mini", "error")]


def test_a_harmless_message_is_sent_and_another_model_may_judge(fault_server: FaultServer) -> None:
    fault_server.default = ok("fine")
    fault_server.route("/v1/moderations", [status(200, {"results": [verdict(hate=0.1)]})])
    found = ask(fault_server, "query", "openai/gpt-4o-mini", "a", moderation="mistral-moderation-latest")
    assert found.content == "fine"
    assert [seen.path for seen in fault_server.requests] == ["/v1/moderations", "/v1/chat/completions"]
    assert fault_server.requests[0].header("Authorization") == f"Bearer {KEYS['mistral_api_key']}"


def test_moderation_that_fails_lets_nothing_through(fault_server: FaultServer) -> None:
    fault_server.route("/v1/moderations", [status(500, {"error": {"message": "down"}})])
    with pytest.raises(Exception, match="down"):
        ask(fault_server, "query", "openai/gpt-4o-mini", "a", moderation=True)
    assert {seen.path for seen in fault_server.requests} == {"/v1/moderations"}


# Counts ---------------------------------------------------------------------------------------------------------------

HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello."}]
TOOL = {"type": "function", "function": {"name": "now", "description": "Time.", "parameters": {"type": "object"}}}


def test_anthropic_counts_what_would_be_sent(fault_server: FaultServer) -> None:
    fault_server.route("/v1/messages/count_tokens", [status(200, {"input_tokens": 14})])
    found = ask(fault_server, "count_tokens", "claude-sonnet-4-5", HELLO, tools=[TOOL])
    assert (found.tokens, found.source, found.model) == (14, "provider", "claude-sonnet-4-5")
    sent = fault_server.requests[0].json
    assert sent.keys() == {"model", "messages", "system", "tools"}, "no max_tokens, no stream: they are refused there"
    assert fault_server.requests[0].header("x-api-key") == KEYS["anthropic_api_key"]


def test_openai_counts_the_input_of_a_response(fault_server: FaultServer) -> None:
    answer = {"object": "response.input_tokens", "input_tokens": 11}
    fault_server.route("/v1/responses/input_tokens", [status(200, answer)])
    found = ask(fault_server, "count_tokens", "gpt-4o-mini", HELLO)
    assert (found.tokens, found.source) == (11, "provider")
    sent = fault_server.requests[0].json
    assert sent["model"] == "gpt-4o-mini"
    assert "Hello." in json.dumps(sent["input"])
    assert sent.keys() <= {"model", "input", "instructions"}


def test_gemini_counts_a_whole_request(fault_server: FaultServer) -> None:
    fault_server.route("/v1beta/models/gemini-2.5-flash:countTokens", [status(200, {"totalTokens": 6})])
    found = ask(fault_server, "count_tokens", "gemini-2.5-flash", HELLO)
    assert (found.tokens, found.source) == (6, "provider")
    sent = fault_server.requests[0].json["generateContentRequest"]
    assert sent["model"] == "models/gemini-2.5-flash"
    assert sent["contents"][0]["parts"] == [{"text": "Hello."}]
    assert sent["systemInstruction"]["parts"] == [{"text": "Be kind."}]
    assert fault_server.requests[0].header("x-goog-api-key") == KEYS["gemini_api_key"]


def test_vllm_counts_messages(fault_server: FaultServer) -> None:
    fault_server.route("/tokenize", [status(200, {"count": 9, "max_model_len": 4096, "tokens": [1, 2]})])

    async def main() -> Any:
        async with client(fault_server, vllm="/v1") as llm:
            return await llm.count_tokens("vllm/qwen", HELLO)

    assert asyncio.run(main()).tokens == 9
    assert fault_server.requests[0].json == {"model": "qwen", "messages": HELLO}


def test_elsewhere_an_estimate_is_given_without_any_request(fault_server: FaultServer) -> None:
    found = ask(fault_server, "count_tokens", "groq/llama-3.3-70b-versatile", HELLO)
    assert found.source == "estimate"
    assert 4 < found.tokens < 40
    assert fault_server.requests == []


@pytest.mark.parametrize("answer", [{"tokens_input": 14}, {"input_tokens": -1}])
def test_an_answer_without_a_count_is_an_error(answer: Any, fault_server: FaultServer) -> None:
    fault_server.route("/v1/messages/count_tokens", [status(200, answer)])
    with pytest.raises(ResponseError, match="is no count"):
        ask(fault_server, "count_tokens", "claude-sonnet-4-5", HELLO)


# All of them ----------------------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "embed": (("claude-sonnet-4-5", "a"), {}),
    "rerank": (("claude-sonnet-4-5", "a", ["b"]), {}),
    "transcribe": (("claude-sonnet-4-5", WAV), {}),
    "speak": (("claude-sonnet-4-5", "a"), {"voice": "alloy"}),
    "moderate": (("a",), {"model_name": "claude-sonnet-4-5"}),
}


@pytest.mark.parametrize("method", CALLS)
def test_a_provider_that_does_not_serve_it_names_those_that_do(method: str, fault_server: FaultServer) -> None:
    args, kwargs = CALLS[method]
    with pytest.raises(ConfigurationError, match=r"anthropic serves no .*'claude-sonnet-4-5'.*these do: ") as caught:
        ask(fault_server, method, *args, **kwargs)
    assert "\n" not in str(caught.value)
    assert fault_server.requests == []


def test_a_provider_class_of_the_users_own_serves_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_master import BaseLLMProvider

    class Own(BaseLLMProvider):
        """A chat and nothing else."""

    monkeypatch.setattr(QueryLLM, "provider_map", {"own-model": (None, Own)})

    async def main() -> None:
        async with QueryLLM(LLMConfig()) as llm:
            assert (await llm.count_tokens("own-model", "Hello")).source == "estimate"
            await llm.embed("own-model", "a")

    with pytest.raises(ConfigurationError, match="serves no embeddings"):
        asyncio.run(main())


def test_every_method_has_its_twin_without_an_event_loop(fault_server: FaultServer) -> None:
    fault_server.route("/v1/moderations", [status(200, {"results": [verdict(hate=0.1)]})])
    fault_server.route("/v1/audio/speech", [raw(MP3, "audio/mpeg")])
    fault_server.route("/v1/audio/transcriptions", [status(200, {"text": "t"})])
    fault_server.route("/v1/rerank", [status(200, {"results": [{"index": 0, "relevance_score": 1}]})])
    fault_server.route("/v1/embeddings", [status(200, {"data": [{"embedding": [1.0]}]})])
    fault_server.route("/v1/responses/input_tokens", [status(200, {"input_tokens": 3})])
    with client(fault_server, vllm="/v1") as llm:
        assert not llm.moderate_sync("a").flagged
        assert llm.speak_sync("openai/tts-1", "a", voice="alloy").audio == MP3
        assert llm.transcribe_sync("openai/whisper-1", WAV).text == "t"
        assert llm.rerank_sync("vllm/r", "q", ["d"]).results[0].document == "d"
        assert llm.embed_sync("openai/e", "a").embeddings == [[1.0]]
        assert llm.count_tokens_sync("gpt-4o", "a").tokens == 3


def test_an_operation_may_live_on_a_host_of_its_own(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_master import UnifiedProvider

    fault_server.route("/audio/v1/transcriptions", [status(200, {"text": "t"})])
    fault_server.route("/mine/transcriptions", [status(200, {"text": "u"})])
    own_host = fault_server.url.replace("127.0.0.1", "localhost") + "/audio/v1"
    row = {
        "base_url": "https://chat.invalid/v1",
        "operations": {"transcribe": {"path": "/transcriptions", "urls": {"": "http://x.invalid", "whisp": own_host}}},
    }
    monkeypatch.setattr(UnifiedProvider, "PROVIDER_CONFIGS", {**UnifiedProvider.PROVIDER_CONFIGS, "two": row})
    monkeypatch.setenv("TWO_API_KEY", "sk-two-0123456789")

    def text(**urls: str) -> str:
        with QueryLLM(LLMConfig(base_urls=urls)) as llm:
            return str(llm.transcribe_sync("two/whisper", WAV).text)

    assert text() == "t"
    assert fault_server.requests[0].header("Authorization") == "Bearer sk-two-0123456789"
    assert text(two=fault_server.url + "/mine") == "u", "an address of the user's own comes first"


def test_a_key_that_is_echoed_is_masked(fault_server: FaultServer) -> None:
    key = KEYS["openai_api_key"]
    fault_server.route("/v1/moderations", [status(200, {"error": {"message": f"bad key {key}"}})])
    with pytest.raises(Exception, match="bad key") as caught:
        ask(fault_server, "moderate", "a", max_attempts=1)
    assert key not in str(caught.value)
    assert base64.b64encode(key.encode()).decode() not in str(caught.value)
