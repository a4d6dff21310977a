"""
A streamed answer: sketches of an image, then the image.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended
from llm_master.classes import Image, LLMResponse, Request
from llm_master.dialect_images import ImagesDialect
from llm_master.events import ImageEvent, UsageEvent
from llm_master.folding import Piece
from llm_master.wire.openai_images_decode import Item, Tokens, picture, respond
from llm_master.wire.sse_fold import EventFolding

__all__ = ["Fold"]

# A picture stands on one line, and four characters hold three bytes of it.
_LONGEST_LINE = 64 * 1024 * 1024


class _Event(msgspec.Struct):
    type: str
    b64_json: str | None = None
    output_format: str | None = None
    partial_image_index: int | None = None
    usage: Tokens | None = None


_EVENT = msgspec.json.Decoder(_Event)


class Fold(EventFolding):
    """
    Folds the bytes of one event stream into one answer.

    Attributes:
        done: every image that was asked for has come; what follows is ignored.
        complete: so they have, or the stream has ended after fewer.
    """

    __slots__ = ("_images", "_usage", "_wanted")

    def __init__(
        self,
        request: Request,
        dialect: ImagesDialect,  # noqa: ARG002  # every family has this signature
        *,
        rules: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(request, rules, _LONGEST_LINE)
        self._images: list[Image] = []
        self._usage: Tokens | None = None
        wanted = request.params.get("n")
        self._wanted = wanted if isinstance(wanted, int) else 1

    def end(self) -> list[Piece]:
        """The events that were still waiting when the stream ended."""
        pieces = super().end()
        if self._images and not self._sse.truncated:
            self.complete = self.done = True
        return pieces

    def _fold(self, payloads: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        self.pending = pieces
        for payload in payloads:
            if self.done:
                break
            try:
                event = _EVENT.decode(payload)
            except UNREADABLE as error:
                event = mended(_EVENT, payload, error, Tokens, ("usage",))
                if event is None:
                    self._odd(payload)
                    continue
                self._note(ODD_USAGE)
            if event.type == "error":
                self._odd(payload)
            elif event.type.endswith((".partial_image", ".completed")):
                self._take(event, pieces)
        return pieces

    def _take(self, event: _Event, pieces: list[Piece]) -> None:
        image = picture(Item(b64_json=event.b64_json), event.output_format, self._request)
        if image is None:
            self._note("an event without its image was skipped")
            return
        if event.type.endswith(".partial_image"):
            pieces.append(ImageEvent(image, partial=True, index=event.partial_image_index or 0))
            return
        pieces.append(ImageEvent(image, partial=False, index=len(self._images)))
        self._images.append(image)
        if event.usage is not None:
            self._usage = event.usage
            pieces.append(UsageEvent(event.usage.normalised()))
        self.complete = self.done = len(self._images) >= self._wanted

    def response(self) -> LLMResponse:
        """The answer so far; its finish reason is None while it has no end."""
        response = respond(self._request, list(self._images), self._usage, None)
        response.finish_reason = "stop" if self.complete else None
        response.notes = (*response.notes, *self.notes)
        return response
