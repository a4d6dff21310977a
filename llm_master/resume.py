"""
What happens when a stream breaks off after content was given: raise, begin again, or go on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.errors import InvalidRequestError, LLMError, StreamInterrupted
from llm_master.events import DiscardEvent
from llm_master.record import logger
from llm_master.stream import StreamSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_master.chain import Step
    from llm_master.classes import LLMResponse

__all__ = ["MODES", "Resumption"]

#: What ``on_interrupt`` may be.
MODES = ("continue", "restart")


def check_mode(value: Any) -> None:
    """
    Refuse an unknown ``on_interrupt``.

    Raises:
        InvalidRequestError: it is neither None nor one of ``MODES``.
    """
    if value is not None and value not in MODES:
        raise InvalidRequestError(f"on_interrupt={value!r}: give 'continue' or 'restart', or None to raise")


class Resumption:
    """
    How the stream of one call goes on after an interruption.

    Args:
        call: the call; its deadline and record go on.
        steps: the models of the call, from the first.
        mode: ``on_interrupt``: ``continue``, ``restart`` or None.
    """

    __slots__ = ("_steps", "call", "mode")

    def __init__(self, call: Any, steps: Sequence[Step], mode: str | None) -> None:
        check_mode(mode)
        self.call = call
        self._steps = steps
        self.mode = mode

    @property
    def has_more(self) -> bool:
        """Whether another target, or another attempt, is left."""
        call = self.call
        here = self._steps[call.at]
        most: int = max(call.policy.max_attempts, len(here.pool.places))
        return bool(call.at + 1 < len(self._steps) or call.tries < most)

    async def go_on(self, cut: StreamInterrupted, mode: str) -> StreamSource:
        """
        The source that takes the place of a broken one.

        Raises:
            StreamInterrupted: nobody is left to go on, or nobody could; with every attempt.
        """
        call = self.call
        partial = cut.partial
        going = mode == "continue" and bool(cut.partial_text)
        if mode == "continue" and partial is not None and partial.tool_calls:
            raise cut  # half of a tool call is nothing that another model could go on with
        chain = await self._targets(cut)
        if chain is None:
            raise cut
        steps, exclude, tries = chain
        offset = len(self._steps) - len(steps)
        call.tell("restart", error=cut, target=steps[0].pool.asked)
        logger.debug("%s: %s with %s", cut, "going on" if going else "beginning again", steps[0].pool.asked)
        messages = call.messages
        try:
            if going:
                from llm_master.policy.continuation import continued, said

                # Any of them may come to answer, and one that takes no prefill refuses it.
                prefill = all(getattr(place.target, "prefill", False) for each in steps for place in each.pool.places)
                call.messages = continued(messages, cut.partial_text, prefill=prefill)
                inner = await call.open(steps, exclude, tries)
                so_far = said(messages, cut.partial_text)
                source: StreamSource = Continued(inner, cut.partial_text, so_far, prefill=prefill)
            else:
                source = await call.open(steps, exclude, tries)
                source.batch = [DiscardEvent(str(cut)), *source.batch]
        except LLMError as error:
            cut.attempts = tuple(call.attempts)
            raise cut from error
        finally:
            call.messages = messages
        # The place in the whole list of steps, for the next interruption.
        call.at += offset
        return source

    async def _targets(self, cut: StreamInterrupted) -> tuple[Sequence[Step], Sequence[str], int] | None:
        """
        Where to go: another deployment of the model, the next model, or the same once more after a wait.

        Returns:
            Steps, deployments of the first one to leave out, attempts made on it so far; None when there is no way.
        """
        call = self.call
        at = call.at
        step = self._steps[at]
        exclude: set[str] = set()
        rest = self._steps[at + 1 :]
        if rest and len(step.pool.places) == 1:
            return rest, (), 0
        if call.last is None:
            # The stream was another call's, which equal ones share.
            call.tries += 1
            again = call.tries < call.policy.max_attempts
            return (rest, (), 0) if rest else (self._steps[at:], (), call.tries) if again else None
        wait = call.next_wait(cut, step.pool, exclude)
        if wait is None:
            return (rest, (), 0) if rest else None
        await call.pause(cut, wait, step.pool)
        return self._steps[at:], tuple(exclude), call.tries


class Continued(StreamSource):
    """The rest of an answer whose beginning another stream gave: nothing of it comes twice."""

    def __init__(self, inner: StreamSource, partial: str, so_far: str, *, prefill: bool) -> None:
        from llm_master.policy.continuation import Joiner

        self._inner = inner
        self._given = [partial]
        # What the caller's own messages begin the answer with is not repeated either.
        self._joiner: Joiner | None = Joiner(so_far, prefill=prefill)
        self.batch = self._joined(inner.batch)

    def _joined(self, pieces: Sequence[Any]) -> list[Any]:
        out: list[Any] = []
        for piece in pieces:
            if isinstance(piece, str):
                fresh = piece if self._joiner is None else self._joiner.feed(piece)
                if fresh:
                    self._given.append(fresh)
                    out.append(fresh)
            else:
                out.append(piece)
        return out

    async def advance(self) -> bool:
        """The next pieces, without what was given before."""
        if self.response is not None:
            return False
        try:
            more = await self._inner.advance()
        except StreamInterrupted as cut:
            cut.partial_text = "".join(self._given)
            raise
        self.batch = self._joined(self._inner.batch)
        if more:
            return True
        rest = "" if self._joiner is None else self._joiner.end()
        self._joiner = None
        if rest:
            # The held-back end is given out before the stream says that it is over.
            self._given.append(rest)
            self.batch = [*self.batch, rest]
            return True
        response: LLMResponse | None = self._inner.response
        assert response is not None  # noqa: S101  # a source that ended has its answer
        response.content = "".join(self._given)
        response.notes = (*response.notes, "the answer was continued after its stream broke off")
        self.response = response
        return False

    def abandon(self) -> None:
        """Stop the inner source."""
        self._inner.abandon()
