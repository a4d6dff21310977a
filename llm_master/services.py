"""
What a client offers beside chat: vectors, ranking, transcripts, speech, moderation and counts of tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from llm_master import asking
from llm_master.asking import MODERATION_MODEL
from llm_master.errors import ConfigurationError, ContentModerationError, NotFoundError
from llm_master.lifecycle import Closing

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from llm_master.answers import (
        EmbeddingResponse,
        ModerationResponse,
        RerankResponse,
        SpeechResponse,
        TokenCount,
        TranscriptionResponse,
    )
    from llm_master.pieces import OperationStream
    from llm_master.policy.deadline import Timeouts

__all__ = ["MODERATION_MODEL", "Services"]


class Services(Closing):
    """
    The part of ``QueryLLM`` that is not chat.

    Every method takes the options ``timeout``, ``max_attempts``, ``fallback_on``, ``extra_headers``, ``tags``,
    ``limit_wait``, ``max_cost`` and ``drop_params`` of ``query``, and each but ``count_tokens`` takes
    ``fallback_model`` and ``fallback_config``; other keyword arguments go to the provider. Every method raises as
    ``query``, and ConfigurationError, with the names of those that serve it, where the provider does not.
    """

    _engine: Any
    _drop_params: bool

    def _load_engine(self) -> Any:
        raise NotImplementedError

    def _pool(self, model_name: str, api: str | None) -> Any:
        raise NotImplementedError

    def _begun(self, asked: asking.Asking) -> tuple[Any, list[Any]]:
        """A call and its steps."""
        engine = self._engine or self._load_engine()
        model_name = asked.model_name
        options, params = asking.parted(asked.name, model_name, asked.given)
        options.setdefault("drop_params", self._drop_params)
        names, config = params.pop("fallback_model", None), params.pop("fallback_config", None)
        headers = params.pop("extra_headers", None)
        engine.check_params(model_name, params if headers is None else {**params, "extra_headers": headers})
        pool = self._pool(model_name, None)
        steps = [engine.Step(pool, params)]
        if names is not None or config is not None or pool.fallbacks:
            others = engine.fallbacks(pool, names, config, chat=False)
            steps += [engine.Step(self._pool(name, None), own) for name, own in others]
        turns = [{"role": "user", "content": text} for text in asked.weighed]
        return engine.call(model_name, turns, headers=headers, **options), steps

    async def _asked(self, asked: asking.Asking) -> Any:
        """The answer of one request, or its stream."""
        call, steps = self._begun(asked)
        call.streamed = asked.stream
        if asked.stream:
            from llm_master.operation_streams import begin as run
        else:
            from llm_master.operation_calls import run
        return await _watched(call, run(call, steps, asked.name, asked.payload), asked.name, steps)

    # -- texts --------------------------------------------------------------------------------------------------

    async def embed(self, model_name: str, input: str | list[str], **options: Any) -> EmbeddingResponse:
        """
        Vectors of one text or several, in their order.

        Many texts are sent in as few requests as the provider allows, several at a time; one that fails is tried again
        alone. A fallback does all texts anew, so that all vectors are of one model.

        Args:
            model_name: ``"text-embedding-3-small"``, ``"gemini-embedding-001"``, ``"local"``.
            input: a text or a list of texts; none may be empty.
            options: ``dimensions``, ``encoding_format`` (``float`` or ``base64``; vectors are lists of floats either
                way), ``input_type`` (``query`` or ``document``, where the provider tells them apart), and what else the
                provider takes.
        """
        from llm_master.operation_calls import embed

        asked = asking.embed(model_name, input, **options)
        call, steps = self._begun(asked._replace(weighed=()))
        return await _watched(call, embed(call, steps, asked.payload), "embed", steps)  # type: ignore[no-any-return]  # a vector's

    def embed_sync(self, model_name: str, input: str | list[str], **options: Any) -> EmbeddingResponse:
        """As ``embed``, for code without an event loop."""
        return _sync(self.embed(model_name, input, **options))  # type: ignore[no-any-return]  # as above

    async def rerank(
        self, model_name: str, query: str, documents: Sequence[str], *, top_n: int | None = None, **options: Any
    ) -> RerankResponse:
        """
        Documents in the order in which they answer a query, the best first.

        Args:
            model_name: ``"cohere/rerank-v3.5"``, ``"rerank-2.5"`` (Voyage).
            documents: texts; none may be empty.
            top_n: how many to give, None for all.
        """
        return await self._asked(asking.rerank(model_name, query, documents, top_n=top_n, **options))  # type: ignore[no-any-return]  # a rank's

    def rerank_sync(self, model_name: str, query: str, documents: Sequence[str], **options: Any) -> RerankResponse:
        """As ``rerank``, for code without an event loop."""
        return _sync(self.rerank(model_name, query, documents, **options))  # type: ignore[no-any-return]  # as above

    async def moderate(
        self, input: str | list[Any], *, model_name: str = MODERATION_MODEL, **options: Any
    ) -> ModerationResponse:
        """
        What a moderation model thinks of texts.

        Args:
            input: a text, a list of texts, or one input in parts (``{"type": "text"}``, ``{"type": "image_url"}``) for
                models that take images.
            model_name: OpenAI's, or ``"mistral-moderation-latest"``.
        """
        return await self._asked(asking.moderate(model_name, input, **options))  # type: ignore[no-any-return]  # a verdict's

    def moderate_sync(self, input: str | list[Any], **options: Any) -> ModerationResponse:
        """As ``moderate``, for code without an event loop."""
        return _sync(self.moderate(input, **options))  # type: ignore[no-any-return]  # as above

    async def _screened(self, call: Any, work: Coroutine[Any, Any, Any], moderation: bool | str) -> Any:
        """
        The work of a call, once its last message of the user is found harmless.

        Raises:
            ContentModerationError: it is flagged; the work is not begun.
        """
        try:
            text = _last_text(call.messages)
            if text:
                model = moderation if isinstance(moderation, str) else MODERATION_MODEL
                _refuse_flagged(await self.moderate(text, model_name=model, timeout=call.remaining()), call.model_name)
        except BaseException:
            work.close()
            raise
        return await work

    # -- sound --------------------------------------------------------------------------------------------------

    @overload
    async def transcribe(
        self, model_name: str, audio: Any, *, stream: Literal[False] = ..., **options: Any
    ) -> TranscriptionResponse: ...

    @overload
    async def transcribe(
        self, model_name: str, audio: Any, *, stream: Literal[True], **options: Any
    ) -> OperationStream[str, TranscriptionResponse]: ...

    async def transcribe(
        self,
        model_name: str,
        audio: Any,
        *,
        language: str | None = None,
        prompt: str | None = None,
        response_format: str | None = None,
        stream: bool = False,
        **options: Any,
    ) -> TranscriptionResponse | OperationStream[str, TranscriptionResponse]:
        """
        What is said in a recording.

        Args:
            model_name: ``"gpt-4o-transcribe"``, ``"groq/whisper-large-v3"``.
            audio: bytes, the path of a file, or a file opened with ``"rb"``; up to 100 MiB, and less where the
                provider takes less (OpenAI 25 MiB). Its first bytes tell the format.
            language: of the recording, ``"en"``; prompt: words that may occur in it.
            response_format: ``json``, ``verbose_json`` (segments, and words with
                ``timestamp_granularities=["word"]``), ``text``, ``srt``, ``vtt``; what a model knows differs.
            stream: give an ``OperationStream`` of pieces of the text once the first one is there.

        Raises:
            InvalidRequestError: no recording, an empty or too large one, or no known format.
            UnsupportedParameterError: the provider cannot stream transcripts.
        """
        import asyncio

        from llm_master.sound import read_sound

        named = {"language": language, "prompt": prompt, "response_format": response_format}
        asked = asking.transcribe(model_name, audio, stream=stream, **named, **options)
        self._begun(asked)  # what is wrong with the call is said before a file is read
        return await self._asked(asked._replace(payload=await asyncio.to_thread(read_sound, audio)))  # type: ignore[no-any-return]  # a text's

    def transcribe_sync(self, model_name: str, audio: Any, **options: Any) -> Any:
        """As ``transcribe``, for code without an event loop; ``stream=True`` gives an ordinary iterator of text."""
        return _pieces(_sync(self.transcribe(model_name, audio, **options)))

    @overload
    async def speak(
        self, model_name: str, text: str, *, voice: Any, stream: Literal[False] = ..., **options: Any
    ) -> SpeechResponse: ...

    @overload
    async def speak(
        self, model_name: str, text: str, *, voice: Any, stream: Literal[True], **options: Any
    ) -> OperationStream[bytes, SpeechResponse]: ...

    async def speak(
        self,
        model_name: str,
        text: str,
        *,
        voice: Any,
        format: str | None = None,
        stream: bool = False,
        **options: Any,
    ) -> SpeechResponse | OperationStream[bytes, SpeechResponse]:
        """
        A text as sound.

        Args:
            model_name: ``"gpt-4o-mini-tts"``.
            voice: one of the model's, ``"alloy"``, or what the provider takes in its place (``{"id": ...}``).
            format: ``mp3``, ``wav``, ``opus``, ``flac``, ``aac`` or ``pcm``; None is the provider's own, mostly
                ``mp3``.
            stream: give an ``OperationStream`` of the sound's bytes, as they arrive, once the first ones are there.
            options: ``speed``, ``instructions`` and what else the provider takes; ``stream_format="sse"`` has OpenAI
                count its tokens.
        """
        asked = asking.speak(model_name, text, voice=voice, format=format, stream=stream, **options)
        return await self._asked(asked)  # type: ignore[no-any-return]  # a sound's

    def speak_sync(self, model_name: str, text: str, *, voice: Any, **options: Any) -> Any:
        """As ``speak``, for code without an event loop; ``stream=True`` gives an ordinary iterator of bytes."""
        return _pieces(_sync(self.speak(model_name, text, voice=voice, **options)))

    # -- counts -------------------------------------------------------------------------------------------------

    async def count_tokens(
        self,
        model_name: str,
        messages: Any = None,
        *,
        prompt: str | None = None,
        timeout: float | Timeouts | None = None,
        **options: Any,
    ) -> TokenCount:
        """
        Tokens that messages have for a model; ``source`` says who counted.

        The provider's own endpoint is asked where it has one, which costs nothing. Elsewhere the model's tokenizer
        counts where one is known and installed (the extra ``tokenizer``), else an estimate is given that says why;
        neither uses a network or needs a key.

        Args:
            messages: as for ``query``; prompt: one user message, in place of them or after them.
            options: what else the question would have, ``tools`` for example.
        """
        from llm_master.addresses import given_url
        from llm_master.arguments import turns_of
        from llm_master.operation_calls import run
        from llm_master.operations import operation_of
        from llm_master.tokenizer import count_here

        engine = self._engine or self._load_engine()
        turns = await turns_of(engine, messages, prompt)
        own, given = asking.counted(engine, model_name, {**options, "timeout": timeout})
        own.setdefault("drop_params", self._drop_params)
        headers = given.pop("extra_headers", None)
        try:
            pool = self._pool(model_name, None)
        except ConfigurationError:
            model = engine.assembly.counted_here(model_name)
            if model is None:
                raise
            return await count_here(turns, given, model)
        target = pool.places[0].target
        row = getattr(target, "row", None)
        if not getattr(target, "counts", False) and (row is None or operation_of(row, "count") is None):
            return await count_here(turns, given, pool.model)
        call = engine.call(model_name, turns, headers=headers, **own)
        try:
            steps = [engine.Step(pool, given)]
            return await _watched(call, run(call, steps, "count", None), "count", steps)  # type: ignore[no-any-return]  # a count's
        except NotFoundError:
            # A gateway at an address of the user's own need not have every route of the provider.
            if row is None or given_url(row, target.config) is None:
                raise
            return await count_here(turns, given, pool.model)

    def count_tokens_sync(self, model_name: str, messages: Any = None, **options: Any) -> TokenCount:
        """As ``count_tokens``, for code without an event loop."""
        return _sync(self.count_tokens(model_name, messages, **options))  # type: ignore[no-any-return]  # as above


def _last_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last message of the user, ``""`` when there is none."""
    content = next((turn.get("content") for turn in reversed(messages) if turn.get("role") == "user"), None)
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if isinstance(part.get("text"), str))


def _refuse_flagged(found: ModerationResponse, model_name: str) -> None:
    if found.flagged:
        names = tuple(name for name, applies in found.categories.items() if applies)
        raise ContentModerationError(
            f"{found.provider} flagged the message for {model_name!r} ({', '.join(names) or 'no category named'});"
            " nothing was sent to the model; change the message",
            provider=found.provider,
            model=found.model,
            code="moderation",
            attempts=found.attempts,
            categories=names,
        )


async def _watched(call: Any, work: Coroutine[Any, Any, Any], kind: str, steps: list[Any]) -> Any:
    call.kind = kind
    if kind == "count":
        call.books = ()  # nothing was asked of a model
    return await (call.observed(work, steps) if call.listeners or call.books else work)


def _sync(work: Coroutine[Any, Any, Any]) -> Any:
    from llm_master.blocking import run

    return run(work)


def _pieces(found: Any) -> Any:
    """A stream as an ordinary iterator; a whole answer as it is."""
    from llm_master.blocking import SyncPieces
    from llm_master.pieces import OperationStream

    return SyncPieces(found) if isinstance(found, OperationStream) else found
