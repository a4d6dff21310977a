"""
Speech and transcripts that come piece by piece: what is given when, what a cut stream is, and that nothing hangs on.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import mistralai.client as mistral
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import close, hold, reset, silence, status
from support.fault_server import FaultServer
from support.sound_pieces import SPEECH, TRANSCRIPTS, bare, events, speech_events, transcript_events, written

from llm_master import (
    APITimeoutError,
    ConfigurationError,
    LLMConfig,
    LLMError,
    OperationStream,
    ProviderError,
    QueryLLM,
    RateLimitError,
    ResponseError,
    RetryPolicy,
    StreamInterrupted,
    Timeouts,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.catalogue import load_operations
from llm_master.classes import Request
from llm_master.operations import operation_of
from llm_master.policy.limits import MemoryLimiter
from llm_master.wire.openai_audio_events import SpeechEvents, TranscriptEvents

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
PIECES = [b"ID3\x04 first", b"\x00\xff second", b"third \xfe"]
SAID = ["Hello", " there", ", you."]
NAMES = ("openai", "mistral", "together", "vllm", "groq", "azure")


def client(server: FaultServer, **options: Any) -> QueryLLM:
    keys = {row_of(name).api_key_attr or "": f"sk-{name}-0123456789" for name in NAMES}
    config = LLMConfig(**keys, base_urls={name: f"{server.url}/{name}/v1" for name in NAMES})  # type: ignore[arg-type]  # attributes of keys
    options.setdefault("retry", RetryPolicy(base_delay=0.001))
    return QueryLLM(config, limiter=MemoryLimiter(), **options)


def listen(server: FaultServer, method: str, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
    """The pieces and the whole answer."""

    async def main() -> tuple[list[Any], Any]:
        async with client(server) as llm:
            stream = await getattr(llm, method)(*args, stream=True, **kwargs)
            return [piece async for piece in stream], stream.response

    return asyncio.run(main())


def speak(server: FaultServer, model: str = "openai/gpt-4o-mini-tts", **kwargs: Any) -> tuple[list[bytes], Any]:
    return listen(server, "speak", model, "Hello.", voice="alloy", **kwargs)


# Whole ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_bare_sound_comes_as_it_is_sent(framing: str, fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES, framing=framing)
    pieces, response = speak(fault_server, format="mp3", speed=1.5)
    assert b"".join(pieces) == response.audio == b"".join(PIECES)
    assert (response.mime_type, response.request_id, response.provider) == ("audio/mpeg", "req-sound", "openai")
    assert [(a.outcome, a.status_code) for a in response.attempts] == [("ok", 200)]
    assert response.attempts[0].bytes_received == len(response.audio)
    assert response.time_to_first_token is not None
    (note,) = response.notes if framing == "close" else ("whole: no length",)
    assert "no length" in note
    (seen,) = fault_server.requests
    assert seen.path == "/openai/v1/audio/speech"
    assert seen.json == {
        "model": "gpt-4o-mini-tts",
        "input": "Hello.",
        "voice": "alloy",
        "response_format": "mp3",
        "speed": 1.5,
    }


@pytest.mark.parametrize("vendor", SPEECH)
def test_sound_in_events_ends_with_its_event(vendor: str, fault_server: FaultServer) -> None:
    # What follows the end is not waited for.
    fault_server.default = events(speech_events(vendor, PIECES), then=silence)
    more = {"stream_format": "sse"} if vendor == "openai" else {}
    pieces, response = speak(fault_server, f"{vendor}/some-voice", **more)
    assert pieces == PIECES
    assert response.audio == b"".join(PIECES)
    assert response.usage.output_tokens == (0 if vendor == "together" else 40)
    body = fault_server.requests[0].json
    asked: dict[str, dict[str, Any]] = {
        "openai": {"stream_format": "sse", "voice": "alloy"},
        "mistral": {"stream": True, "voice_id": "alloy"},
        "together": {"stream": True, "response_format": "raw", "response_encoding": "pcm_s16le", "voice": "alloy"},
    }
    assert body == {"model": "some-voice", "input": "Hello.", **asked[vendor]}


@pytest.mark.parametrize("vendor", TRANSCRIPTS)
def test_a_transcript_in_events(vendor: str, fault_server: FaultServer) -> None:
    from test_modalities import parts_of

    fault_server.default = events(transcript_events(vendor, SAID), then=silence)
    pieces, response = listen(fault_server, "transcribe", f"{vendor}/some-ears", WAV, language="en")
    assert pieces == SAID
    assert response.text == "Hello there, you."
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 40)
    if vendor == "mistral":
        assert (response.language, response.duration, response.model) == ("en", 3.0, "voxtral")
        assert [(s.text, s.start, s.end, s.speaker) for s in response.segments] == [("Hello there, you.", 0, 1.5, "s1")]
    form = parts_of(fault_server.requests[0])
    assert form.pop("file") == ("audio.wav", "audio/wav", WAV)
    assert form == {"model": "some-ears", "stream": "true", "language": "en"}


def test_a_server_that_does_not_stream_gives_one_piece(fault_server: FaultServer) -> None:
    fault_server.route("/openai/v1/audio/transcriptions", [status(200, {"text": "All of it."})])
    pieces, response = listen(fault_server, "transcribe", "openai/whisper-1", WAV)
    assert (pieces, response.text, response.attempts[0].outcome) == (["All of it."], "All of it.", "ok")
    fault_server.route("/mistral/v1/audio/speech", [status(200, {"audio_data": "SUQzBA=="})])
    pieces, response = speak(fault_server, "mistral/voxtral-tts")
    assert (pieces, response.audio, response.mime_type) == ([b"ID3\x04"], b"ID3\x04", "audio/mpeg")


def test_events_are_read_whole_too(fault_server: FaultServer) -> None:
    fault_server.default = events(speech_events("openai", PIECES))

    async def main() -> Any:
        async with client(fault_server) as llm:
            return await llm.speak("openai/gpt-4o-mini-tts", "Hi", voice="alloy", stream_format="sse")

    found = asyncio.run(main())
    assert (found.audio, found.usage.output_tokens) == (b"".join(PIECES), 40)
    fault_server.default = events(speech_events("openai", PIECES)[:-1])
    with pytest.raises(ResponseError, match="no whole sound"):
        asyncio.run(main())


def test_a_piece_is_there_before_the_next_is_made(fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES, after=1, then=hold())

    async def main() -> list[bytes]:
        async with client(fault_server) as llm, await llm.speak("openai/tts-1", "Hi", voice="a", stream=True) as stream:
            reader = aiter(stream)
            first = await anext(reader)
            assert first == PIECES[0]
            with pytest.raises(LLMError, match="has not ended yet"):
                stream.response  # noqa: B018  # the property raises
            fault_server.release()
            return [first, *[piece async for piece in reader]]

    assert b"".join(asyncio.run(main())) == b"".join(PIECES)


def test_without_an_event_loop(fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES)
    with client(fault_server) as llm:
        with llm.speak_sync("openai/tts-1", "Hi", voice="alloy", stream=True) as stream:
            assert b"".join(stream) == b"".join(PIECES)
            assert stream.response.audio == b"".join(PIECES)
        assert llm.speak_sync("openai/tts-1", "Hi", voice="alloy").audio == b"".join(PIECES)
        fault_server.default = events(transcript_events("openai", SAID))
        assert list(llm.transcribe_sync("gpt-4o-transcribe", WAV, stream=True)) == SAID


def test_whole_reads_to_the_end_and_once(fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES)

    async def main() -> None:
        async with client(fault_server) as llm:
            stream = await llm.speak("openai/tts-1", "Hi", voice="alloy", stream=True)
            assert isinstance(stream, OperationStream)
            assert (await stream.whole()).audio == (await stream.whole()).audio == b"".join(PIECES)
            with pytest.raises(LLMError, match="read once"):
                async for _ in stream:
                    pass

    asyncio.run(main())


# Cut ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [close, reset], ids=["fin", "rst"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_bare_sound_that_is_cut_raises(framing: str, end: Any, fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES, framing=framing, after=2, then=end)
    check_cut(fault_server, PIECES[:2], lambda: speak(fault_server))


@pytest.mark.parametrize("vendor", SPEECH)
@pytest.mark.parametrize("polite", [True, False])
def test_events_without_their_end_are_cut(vendor: str, polite: bool, fault_server: FaultServer) -> None:
    sent = speech_events(vendor, PIECES)[:-1]
    # Politely: the body is whole for HTTP, and its answer is not.
    fault_server.default = events(sent) if polite else events(sent, after=3, then=close)
    check_cut(fault_server, PIECES, lambda: speak(fault_server, f"{vendor}/some-voice"))


def check_cut(server: FaultServer, given: list[bytes], call: Callable[[], Any]) -> None:
    with pytest.raises(StreamInterrupted) as caught:
        call()
    assert caught.value.partial.audio == b"".join(given)
    assert f"after {len(b''.join(given))} bytes of sound" in str(caught.value)
    assert [a.outcome for a in caught.value.attempts] == ["interrupted"]
    assert len(server.requests) == 1, "sound that was given cannot be taken back, so nothing begins again by itself"


def test_a_transcript_that_is_cut_raises(fault_server: FaultServer) -> None:
    fault_server.default = events(transcript_events("openai", SAID)[:2])
    with pytest.raises(StreamInterrupted, match="after 11 characters") as caught:
        listen(fault_server, "transcribe", "gpt-4o-transcribe", WAV)
    assert (caught.value.partial_text, caught.value.partial.text) == ("Hello there", "Hello there")


def test_an_error_in_the_stream_is_typed(fault_server: FaultServer) -> None:
    fault = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down", "code": "rate_limit"}}
    fault_server.default = events([*speech_events("openai", PIECES)[:1], fault], after=1, then=hold(0.03))
    with pytest.raises(StreamInterrupted, match="slow down") as caught:
        speak(fault_server)
    assert isinstance(caught.value.__cause__, RateLimitError)


def test_sound_that_is_no_base64_is_said(fault_server: FaultServer) -> None:
    good = speech_events("openai", PIECES)[0]
    odd = {"type": "speech.audio.delta", "audio": "%%%"}
    fault_server.default = events([good, odd], after=1, then=hold(0.03))
    with pytest.raises(StreamInterrupted, match="no base64"):
        speak(fault_server)


# Before the first piece -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [status(503), reset, close, bare([]), bare([], then=reset), events([]), events([{"type": "speech.audio.done"}])],
    ids=["503", "rst", "fin", "empty", "rst-after-head", "no-events", "done-at-once"],
)
def test_what_fails_before_the_first_byte_is_tried_again(fault: Any, fault_server: FaultServer) -> None:
    fault_server.script([fault, bare(PIECES)])
    pieces, response = speak(fault_server)
    assert b"".join(pieces) == b"".join(PIECES)
    assert [a.outcome for a in response.attempts] == ["error", "ok"]
    assert len(fault_server.requests) == 2


def test_a_fallback_speaks_with_its_own_parameters(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(401)])
    fault_server.route("/groq", [bare(PIECES)])
    pieces, response = speak(
        fault_server, fallback_model="groq/orpheus", fallback_config={"voice": "autumn", "response_format": "wav"}
    )
    assert b"".join(pieces) == b"".join(PIECES)
    assert response.provider == "groq"
    assert fault_server.requests[-1].json["voice"] == "autumn"


def test_a_page_is_no_sound(fault_server: FaultServer) -> None:
    fault_server.default = bare([b"<html>nothing"], kind="text/html")
    with pytest.raises(ResponseError, match="no sound"):
        speak(fault_server, max_attempts=1)


def test_a_provider_without_streams_refuses_before_the_request(fault_server: FaultServer) -> None:
    with pytest.raises(UnsupportedParameterError, match=r"groq gives transcripts .* as a whole") as caught:
        listen(fault_server, "transcribe", "groq/whisper-large-v3", WAV)
    assert caught.value.parameter == "stream"
    with pytest.raises(ConfigurationError, match="serves no speech"):
        speak(fault_server, "vllm/some-model")
    assert fault_server.requests == []


# Time and leaving -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "timeouts",
    [Timeouts(first_token=0.05), Timeouts(total=0.05, first_token=None)],
    ids=["first", "total"],
)
@pytest.mark.parametrize("fault", [silence, bare(PIECES, after=0, then=silence)], ids=["no-head", "no-byte"])
def test_silence_before_the_first_byte_ends(fault: Any, timeouts: Timeouts, fault_server: FaultServer) -> None:
    fault_server.default = fault
    with pytest.raises((APITimeoutError, ProviderError)) as caught:
        speak(fault_server, timeout=timeouts)
    assert isinstance(caught.value, APITimeoutError)
    fault_server.wait_closed(0)


@pytest.mark.parametrize(
    "timeouts",
    [Timeouts(idle=0.05), Timeouts(total=0.15, idle=None)],
    ids=["idle", "deadline"],
)
def test_silence_between_two_pieces_ends(timeouts: Timeouts, fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES, after=2, then=silence)
    with pytest.raises(StreamInterrupted) as caught:
        speak(fault_server, timeout=timeouts)
    assert isinstance(caught.value.__cause__, APITimeoutError)
    assert caught.value.partial.audio == b"".join(PIECES[:2])
    fault_server.wait_closed(0)


def test_sound_without_a_line_end_is_a_sign_of_life(fault_server: FaultServer) -> None:
    pieces = [b"\x01" * 8] * 12
    fault_server.default = bare(pieces, after=11, then=hold(0.05))

    async def slow(x: Any) -> None:
        await x.send(x.head(200, [("Content-Type", "audio/pcm")], framing="chunked"))
        for piece in pieces:
            await x.chunk(piece)
            await asyncio.sleep(0.02)
        await x.end()

    fault_server.default = slow
    _, response = speak(fault_server, timeout=Timeouts(idle=0.15))
    assert len(response.audio) == 96


def test_leaving_early_closes_the_connection(fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES, after=1, then=silence)
    ends: list[Any] = []

    async def main() -> None:
        async with client(fault_server) as llm:
            llm.on_event(lambda event: ends.append((event.name, event.outcome)) if event.name == "end" else None)
            async with await llm.speak("openai/tts-1", "Hi", voice="alloy", stream=True) as stream:
                async for piece in stream:
                    assert piece == PIECES[0]
                    break
            await asyncio.to_thread(fault_server.wait_closed, 0)

    asyncio.run(main())
    assert ends == [("end", "cancelled")]
    assert fault_server.requests[0].closed_early


@pytest.mark.parametrize("started", [True, False])
def test_cancelling_closes_the_connection(started: bool, fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES, after=1 if started else 0, then=silence)

    async def main() -> None:
        async with client(fault_server) as llm:

            async def read() -> None:
                stream = await llm.speak("openai/tts-1", "Hi", voice="alloy", stream=True)
                async for _ in stream:
                    pass

            task = asyncio.create_task(read())
            await asyncio.to_thread(fault_server.wait_requests, 1)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fault_server.wait_closed, 0)

    asyncio.run(main())


def test_each_call_has_one_end_in_its_events(fault_server: FaultServer) -> None:
    ends: list[Any] = []

    async def main() -> None:
        async with client(fault_server) as llm:
            llm.on_event(lambda event: ends.append(event.outcome) if event.name == "end" else None)
            for behaviour in (bare(PIECES), bare(PIECES, after=1, then=reset), status(400)):
                fault_server.default = behaviour
                try:
                    await (await llm.speak("openai/tts-1", "Hi", voice="alloy", stream=True)).whole()
                except ProviderError:
                    continue

    asyncio.run(main())
    assert ends == ["ok", "error", "error"]


# Every row ------------------------------------------------------------------------------------------------------------

FACTS = load_operations()
SOUND = [(name, each) for name in sorted(FACTS) for each in ("speak", "transcribe") if each in FACTS[name]]


@pytest.mark.parametrize(("provider", "name"), SOUND)
def test_every_row_with_sound_streams_or_says_that_it_does_not(
    provider: str, name: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = row_of(provider)
    for variable in row.key_variables:
        monkeypatch.delenv(variable, raising=False)
    operation = operation_of(row, name)
    assert operation is not None
    kind = "mistral" if provider == "mistral" else "vllm" if provider == "vllm" else "openai"
    fault_server.default = bare(PIECES) if name == "speak" else events(transcript_events(kind, SAID))
    config = LLMConfig(
        **{row.api_key_attr or "": "conf-key-0123456789"},  # type: ignore[arg-type]  # an attribute of a key
        base_urls={provider: fault_server.url + "/base/v1"},
    )

    async def main() -> Any:
        async with QueryLLM(config, limiter=MemoryLimiter()) as llm:
            if name == "speak":
                return await (await llm.speak(f"{provider}/m", "Hi", voice="v", stream=True)).whole()
            return await (await llm.transcribe(f"{provider}/m", WAV, stream=True)).whole()

    if operation.stream is None:
        with pytest.raises(UnsupportedParameterError, match="as a whole"):
            asyncio.run(main())
        assert fault_server.requests == []
        return
    found = asyncio.run(main())
    assert (found.audio if name == "speak" else found.text) == (b"".join(PIECES) if name == "speak" else "".join(SAID))
    assert fault_server.requests[0].path.endswith(operation.path)


# Any split of the bytes -----------------------------------------------------------------------------------------------


@given(cuts=st.sets(st.integers(1, 2000), max_size=12), vendor=st.sampled_from(SPEECH))
def test_any_split_of_the_bytes_gives_the_same_sound(cuts: set[int], vendor: str) -> None:
    fold = SpeechEvents(Request("p", "m", [], {}))
    found = [piece for part in _split(speech_events(vendor, PIECES), cuts) for piece in fold.feed(part)]
    assert (found, fold.done, fold.complete, fold.response().audio) == (PIECES, True, True, b"".join(PIECES))


@given(cuts=st.sets(st.integers(1, 2000), max_size=12), vendor=st.sampled_from(TRANSCRIPTS))
def test_any_split_of_the_bytes_gives_the_same_text(cuts: set[int], vendor: str) -> None:
    fold = TranscriptEvents(Request("p", "m", [], {}))
    found = [piece for part in _split(transcript_events(vendor, SAID), cuts) for piece in fold.feed(part)]
    assert (found, fold.done, fold.response().text) == (SAID, True, "".join(SAID))


def _split(payloads: list[Any], cuts: set[int]) -> list[bytes]:
    data = b"".join(written(payload) for payload in payloads)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


# The vendors' packages ------------------------------------------------------------------------------------------------


def test_the_openai_package_hears_and_asks_the_same(fault_server: FaultServer) -> None:
    fault_server.default = bare(PIECES)
    pieces, response = speak(fault_server, format="mp3")
    with (
        openai.OpenAI(api_key="k", base_url=fault_server.url + "/openai/v1", max_retries=0) as package,
        package.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", input="Hello.", voice="alloy", response_format="mp3"
        ) as judge,
    ):
        theirs = b"".join(judge.iter_bytes())
    assert b"".join(pieces) == response.audio == theirs
    one, two = fault_server.requests
    assert (one.path, one.json) == (two.path, two.json)


def test_the_openai_package_reads_the_same_transcript(fault_server: FaultServer) -> None:
    from test_modalities import parts_of

    fault_server.default = events(transcript_events("openai", SAID))
    pieces, response = listen(fault_server, "transcribe", "openai/gpt-4o-transcribe", WAV)
    with openai.OpenAI(api_key="k", base_url=fault_server.url + "/openai/v1", max_retries=0) as package:
        theirs = list(
            package.audio.transcriptions.create(model="gpt-4o-transcribe", file=("audio.wav", WAV), stream=True)
        )
    assert pieces == [event.delta for event in theirs if event.type == "transcript.text.delta"]
    done = next(event for event in theirs if event.type == "transcript.text.done")
    assert done.usage is not None
    assert (response.text, response.usage.output_tokens) == (done.text, done.usage.output_tokens)
    forms = [parts_of(seen) for seen in fault_server.requests]
    assert [form.pop("file")[::2] for form in forms] == [("audio.wav", WAV)] * 2
    assert forms[0] == forms[1]


@contextlib.contextmanager
def the_package(server: FaultServer) -> Iterator[mistral.Mistral]:
    # The client that is not used is given, too: the package would close its own when it is collected, in a loop of its
    # own, in the middle of any other test.
    with httpx2.Client() as http:
        yield mistral.Mistral(
            api_key="k", server_url=server.url + "/mistral", client=http, async_client=httpx2.AsyncClient()
        )


def test_mistrals_package_hears_and_asks_the_same(fault_server: FaultServer) -> None:
    fault_server.default = events(speech_events("mistral", PIECES))
    pieces, response = speak(fault_server, "mistral/voxtral-mini-tts-3-0", format="wav")
    with the_package(fault_server) as package:
        theirs = list(
            package.audio.speech.complete(
                model="voxtral-mini-tts-3-0", input="Hello.", voice_id="alloy", response_format="wav", stream=True
            )
        )
    sounds = [base64.b64decode(e.data.audio_data) for e in theirs if e.data.type == "speech.audio.delta"]
    usage: Any = theirs[-1].data
    assert pieces == sounds
    assert response.usage.output_tokens == usage.usage.completion_tokens
    one, two = fault_server.requests
    assert (one.path, one.json) == (two.path, two.json)


def test_mistrals_package_gives_the_same_whole_sound_and_transcripts(fault_server: FaultServer) -> None:
    from test_modalities import parts_of

    fault_server.route("/mistral/v1/audio/speech", [status(200, {"audio_data": "SUQzBA=="})])
    fault_server.route("/mistral/v1/audio/transcriptions", [events(transcript_events("mistral", SAID))])
    wanted: dict[str, Any] = {
        "timestamp_granularities": ["segment"],
        "context_bias": ["Oslo", "Bergen"],
        "diarize": True,
    }

    async def ours() -> Any:
        async with client(fault_server) as llm:
            return await llm.speak("mistral/voxtral-tts", "Hello.", voice="v1", format="mp3")

    found = asyncio.run(ours())
    pieces, response = listen(fault_server, "transcribe", "mistral/voxtral-mini", WAV, **wanted)
    with the_package(fault_server) as package:
        judge: Any = package.audio.speech.complete(
            model="voxtral-tts", input="Hello.", voice_id="v1", response_format="mp3", stream=False
        )
        theirs = list(
            package.audio.transcriptions.stream(
                model="voxtral-mini",
                file={"content": WAV, "file_name": "audio.wav", "content_type": "audio/wav"},
                **wanted,
            )
        )
    assert found.audio == base64.b64decode(judge.audio_data)
    assert pieces == [e.data.text for e in theirs if e.data.type == "transcription.text.delta"]
    last: Any = theirs[-1].data
    assert response.text == last.text
    one, two = (seen for seen in fault_server.requests if seen.path.endswith("speech"))
    assert one.json == {key: value for key, value in two.json.items() if key != "stream"}
    forms = [parts_of(seen) for seen in fault_server.requests if seen.path.endswith("transcriptions")]
    assert forms[0] == forms[1]
