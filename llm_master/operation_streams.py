"""
Speech and transcripts piece by piece: the same attempts, limits and fallbacks as a whole answer until the first piece.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.answers import SpeechResponse
from llm_master.chain import Step
from llm_master.classes import Request
from llm_master.operating import open_operation
from llm_master.operation_calls import Asked
from llm_master.pieces import OperationStream
from llm_master.sources import WireSource, interruption
from llm_master.stream import StreamSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from llm_master.errors import ProviderError, StreamInterrupted
    from llm_master.incoming import OpenStream
    from llm_master.record import Trial

__all__ = ["begin"]


async def begin(call: Any, steps: Sequence[Step], name: str, payload: Any) -> OperationStream[Any, Any]:
    """
    The stream of the first step that begins to answer.

    Args:
        name: the operation; payload: what it works on.
    """

    async def make(step: Asked, trial: Trial, limits: aiohttp.ClientTimeout) -> StreamSource:
        target = trial.target
        request = trial.request = Request(
            *(target.provider, target.model, call.messages, step.own),
            stream=True,
            headers=call.headers,
            drop_params=call.drop_params,
        )
        stream, reading, times = await call.opening(
            trial, limits, partial(open_operation, target, name, payload, request)
        )
        try:
            return await _first_piece(call, trial, stream, reading, times)
        except BaseException:
            stream.close()
            raise

    call.admission.budget.deposit()
    return OperationStream(await call.walk([Asked(step) for step in steps], make), call)


async def _first_piece(
    call: Any, trial: Trial, stream: OpenStream, reading: Any, times: tuple[float | None, float | None]
) -> StreamSource:
    """The source, once its first piece is there; ``times`` as of ``Call.opening``."""
    until, share = times
    fold, decode = reading
    stream.watch(None, until)
    if fold is None:
        response = decode(await stream.rest(), stream.headers)
        _note_dropped(trial, response)
        stream.close()
        return _Whole(trial, response)
    source = _Pieces(trial, stream, fold)
    while not await source.fill():
        pass
    call.arm(source, share)
    return source


def _note_dropped(trial: Trial, response: Any) -> None:
    response.dropped = trial.request.dropped if trial.request is not None else ()


class _Pieces(WireSource):
    """The pieces of one provider's stream; what breaks it off says how much had come."""

    def _end(self) -> Any:
        response = super()._end()
        _note_dropped(self._trial, response)
        return response

    def _interrupted(self, error: ProviderError) -> StreamInterrupted:
        partial: Any = self._fold.response()
        self._close()
        if isinstance(partial, SpeechResponse):
            return interruption(self._trial, error, "", partial, f"{len(partial.audio)} bytes of sound")
        return interruption(self._trial, error, partial.text, partial)


class _Whole(StreamSource):
    """A stream over an answer that came as a whole: the server did not stream."""

    def __init__(self, trial: Trial, response: Any) -> None:
        self.batch: Sequence[Any] = [response.audio if isinstance(response, SpeechResponse) else response.text]
        self._answer, self._trial = response, trial
        self._first = monotonic()
        trial.answered(self._first)

    async def advance(self) -> bool:
        """Nothing more comes."""
        self.batch = ()
        if self.response is None:
            self._trial.finished(self._answer, self._first)
            self.response = self._answer
        return False

    def abandon(self) -> None:
        """Note that the caller left it, if it did."""
        if self.response is None:
            self._trial.cancelled()
