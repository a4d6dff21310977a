"""
What stops a request that a model is known to be unable to take, before it is sent.

Parameters are the business of the wire families; this is about limits, kinds of input and models that are retired. Only
facts of this very model count: what is merely likely is left to the provider to say.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from llm_master.errors import ContextWindowError, NotFoundError, ProviderError, UnsupportedParameterError
from llm_master.model_facts import Found, facts_of

if TYPE_CHECKING:
    from llm_master.classes import Request
    from llm_master.rows import ProviderRow

__all__ = ["Guard", "guard_for"]

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_KINDS = {
    **dict.fromkeys(("image_url", "input_image", "image"), "images"),
    **dict.fromkeys(("input_audio", "audio"), "audio"),
    **dict.fromkeys(("video_url", "input_video", "video"), "video"),
    **dict.fromkeys(("file", "input_file", "document"), "files"),
}
_INSTEAD = {
    "images": "describe the image in words",
    "audio": "send a transcript",
    "video": "send pictures of it or words",
    "files": "send the file's text",
}
# An estimate of tokens is up to 4.7 times the count (policy/estimate.py): what is above five contexts fits into none.
_SURE = 5
# Days before a model is retired from which its answers say so.
_SOON = 90


class Guard:
    """
    The facts of one model, ready to be held against its requests.

    Attributes:
        notice: what answers say of the model's retirement, None for nothing.
    """

    __slots__ = ("_facts", "_model", "_provider", "_retired", "notice")

    def __init__(self, provider: str, model: str, found: Found, today: dt.date) -> None:
        self._provider, self._model, self._facts = provider, model, found.facts
        day = found.facts.retires_on
        self._retired = day is not None and day <= today.isoformat()
        soon = day is not None and day <= (today + dt.timedelta(days=_SOON)).isoformat()
        instead = f"; it names {found.facts.successor} instead" if found.facts.successor else ""
        verb = "retired" if self._retired else "retires"
        self.notice = f"{provider} {verb} {model!r} on {day}{instead}" if soon else None

    def check(self, request: Request) -> tuple[str, ...]:
        """
        Hold the limits against a request with parameters; what was lowered, for ``dropped``.

        With ``drop_params`` the request gets parameters of its own; the caller's are never changed.

        Raises:
            UnsupportedParameterError: it asks for more output than the model gives.
            ContextWindowError: its input cannot fit, whatever the tokenizer.
        """
        self._check_context(request)
        most = self._facts.max_output
        if most is None:
            return ()
        lowered: dict[str, Any] = {}
        for name in _LIMITS:
            value = request.params.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > most:
                lowered[name] = most
        if not lowered:
            return ()
        name = next(iter(lowered))
        given = request.params[name]
        if not request.drop_params:
            raise UnsupportedParameterError(
                f"{self._provider}/{self._model} gives at most {most} tokens of output, and {name}={given} asks for"
                f" more; give {name}={most} or less, or pass drop_params=True",
                parameter=name,
            )
        request.params = {**request.params, **lowered}
        return (f"{name}={given}->{most}",)

    def check_part(self, kind: str) -> None:
        """
        Refuse a part of a message that the model does not read; ``kind`` is the part's type.

        Raises:
            UnsupportedParameterError: a source says that it does not.
        """
        what = _KINDS.get(kind)
        if what is None or getattr(self._facts, what) is not False:
            return
        able = self._able(what)
        raise UnsupportedParameterError(
            f"{self._provider}/{self._model} reads no {what} ({kind!r} part); {_INSTEAD[what]}, or use a model that"
            " does" + (f", such as {able}" if able else ""),
            parameter=kind,
        )

    def explain(self, error: ProviderError) -> None:
        """Add to a provider's refusal what is known of the model."""
        context = self._facts.context
        if isinstance(error, NotFoundError) and self._retired:
            error.args = (f"{error.message}; {self.notice}",)
        elif isinstance(error, ContextWindowError) and context is not None:
            error.args = (f"{error.message}; {self._model!r} holds {context} tokens of input and answer",)

    def _check_context(self, request: Request) -> None:
        context = self._facts.context
        if context is None:
            return
        texts = (message.get("content") for message in request.messages)
        # A character is 1.8 tokens at most in the estimate, so short messages need none.
        if 2 * sum(len(text) for text in texts if isinstance(text, str)) < _SURE * context:
            return
        from llm_master.policy.estimate import estimate_input

        tokens = estimate_input(request.messages, request.params)
        if tokens > _SURE * context:
            raise ContextWindowError(
                f"{self._provider}/{self._model} holds {context} tokens and the messages are about {tokens};"
                " shorten them, or use a model with a larger context",
                provider=self._provider,
                model=self._model,
            )

    def _able(self, what: str) -> str | None:
        """A model of the same provider that reads this, the newest that is listed."""
        from llm_master.catalogue import load_models

        listed = load_models().get(self._provider)
        names = listed.models if listed is not None else ()
        return next((name for name in names if getattr(facts_of(self._provider, name).facts, what)), None)


def guard_for(row: ProviderRow, model: str, *, today: dt.date | None = None) -> Guard | None:
    """The guard of a model at a provider; None where no source speaks of it. ``today`` is that of UTC."""
    found = facts_of(row.name, model, own_server=row.key_optional)
    if not found.certain:
        return None
    return Guard(row.name, model, found, today or dt.datetime.now(dt.UTC).date())
