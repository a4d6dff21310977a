"""
Going on with an answer that was cut: what to ask the next target, and where its text joins the text already given.
"""

from __future__ import annotations

from typing import Any

__all__ = ["INSTRUCTION", "LEAST", "LEAST_PREFILLED", "LEAST_WHOLE", "Joiner", "continued", "said"]

#: What a target without prefill is told after the text it has to go on with.
INSTRUCTION = (
    "Your last message was cut off. Go on exactly where its text stops, even in the middle of a word or of a line:"
    " begin with the very next character. Do not repeat any of it, do not start again, and add no introduction and no"
    " comment about the interruption."
)

#: Characters of a repetition at least, by instruction and after a prefill; and when the whole text comes again.
LEAST = 8
LEAST_PREFILLED = 12
LEAST_WHOLE = 3

# "0, 0, 0, 0," and "---|---|---" go on as they end: what has fewer different characters is no sign of a repetition,
# and a text whose last thousand characters have fewer is not searched for one.
_LEAST_DIFFERENT = 5
_SEARCHED = 1000
# Of longer whitespace at the end of the partial text only the beginning is looked for.
_LONGEST_END = 64
# Scripts from here on (CJK) have no spaces between words.
_UNSPACED = "\u2e80"


def said(messages: list[dict[str, Any]], partial: str) -> str:
    """
    The text of the assistant's turn so far: the caller's own beginning of it, where there is one, and ``partial``.

    This is what a ``Joiner`` is given: a target that starts the turn again starts with the caller's beginning.
    """
    last = messages[-1] if messages else {}
    if not _is_prefill(last):
        return partial
    content = last["content"]
    if isinstance(content, list):
        content = "".join(text for part in content if isinstance(text := part.get("text"), str))
    return _appended(content, partial)


def continued(messages: list[dict[str, Any]], partial: str, *, prefill: bool) -> list[dict[str, Any]]:
    """
    The messages that ask for the rest of an answer; those given are not changed.

    With ``prefill`` the partial text is the last message, the assistant's, without whitespace at its end, which the
    Messages API refuses. Without, it is followed by ``INSTRUCTION`` as a user message. An assistant message that ends
    the messages already is the beginning of the same turn and takes the partial text at its end. A partial text of
    nothing but whitespace asks the same again.

    Args:
        messages: normalised.
        partial: the text that was given to the caller.
        prefill: whether the target goes on from a last message of the assistant.
    """
    if not partial.strip():
        return list(messages)
    last = messages[-1] if messages else {}
    partial = partial.rstrip() if prefill else partial
    if _is_prefill(last):
        before, turn = messages[:-1], _longer(last, partial)
    else:
        before, turn = messages, {"role": "assistant", "content": partial}
    return [*before, turn] if prefill else [*before, turn, {"role": "user", "content": INSTRUCTION}]


def _is_prefill(message: dict[str, Any]) -> bool:
    if message.get("role") != "assistant" or message.get("tool_calls") or message.get("function_call"):
        return False
    return isinstance(message.get("content"), (str, list))


def _longer(message: dict[str, Any], partial: str) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": _appended(content, partial)}
    last = content[-1] if content else {}
    if last.get("type") == "text" and isinstance(last.get("text"), str):
        return {**message, "content": [*content[:-1], {**last, "text": _appended(last["text"], partial)}]}
    return {**message, "content": [*content, {"type": "text", "text": partial}]}


def _appended(before: str, partial: str) -> str:
    # The Messages API cuts whitespace off before it goes on: then the model's own is what counts.
    return before.rstrip() + partial if partial[:1].isspace() else before + partial


class Joiner:
    """
    Lets through of a continuation what is new.

    The new text may go on exactly, or begin with a repetition: of the whole partial text or of its last words. That is
    held back and dropped, together with whitespace before it. What could still become a repetition is held back too,
    and nothing else. Only from the beginning of the new text something is ever dropped, and nothing is added.

    A repetition is taken for one from ``LEAST`` characters on (``LEAST_PREFILLED`` after a prefill, which a model goes
    on from exactly), at least five of them different, beginning where a word does; the whole partial text from
    ``LEAST_WHOLE`` on. Where the partial text ends in whitespace, the repetition must end with the word. Of several
    the longest counts. So a text that rightly repeats its own last words at the seam loses them once.

    Whitespace at the end of the partial text is not sent as a prefill, and it follows a repetition: as much of it as
    comes again is dropped. A continuation by instruction without a repetition had it before its eyes, and keeps all.

    The work is linear in the lengths of both texts, however the new text is cut into pieces.

    Args:
        partial: the assistant's text so far (see ``said``).
        prefill: as in ``continued``.

    Attributes:
        dropped: characters dropped so far.
    """

    __slots__ = (
        "_fails",
        "_held",
        "_least",
        "_matched",
        "_matching",
        "_open",
        "_prefill",
        "_size",
        "_start",
        "_tail",
        "_text",
        "_whole",
        "dropped",
    )

    def __init__(self, partial: str, *, prefill: bool) -> None:
        self._text = text = partial.strip()
        self._tail = partial[len(partial.rstrip()) :]
        self._prefill = prefill
        self._least = max(LEAST_PREFILLED if prefill else LEAST, _reach_of_different(text))
        self._whole = len(text) >= LEAST_WHOLE and text.count(text[0]) < len(text)
        # Whitespace that waits for what follows, and its length.
        self._held: list[str] = []
        self._size = 0
        # The new text so far is text[start : start + matched]; ``fails`` is its failure table (Knuth, Morris, Pratt).
        self._start = self._matched = 0
        self._fails = [0, 0]
        self._matching = True
        self._open = False
        self.dropped = 0

    def feed(self, text: str) -> str:
        """The part of the new text that may be shown now, perhaps after some held back before; maybe empty."""
        return text if self._open else self._take(text, final=False)

    def end(self) -> str:
        """What was held back and turned out to be new; call it when the continuation is complete."""
        return "" if self._open else self._take("", final=True)

    def _take(self, text: str, *, final: bool) -> str:
        if self._matching:
            if not self._matched:
                body = text.lstrip()
                self._hold(text[: len(text) - len(body)])
                if not body and not final:
                    return ""
                text = body
            found = self._match(text, final=final)
            if found is None:
                return ""
            repeated, text = found
            self._matching = False
            text = self._settled(repeated, text)
            if self._open:
                return text
        return self._seam(text, final=final)

    def _hold(self, space: str) -> None:
        if space:
            self._held.append(space)
            self._size += len(space)

    def _release(self) -> str:
        held, self._held, self._size = "".join(self._held), [], 0
        return held

    def _settled(self, repeated: int, text: str) -> str:
        """What is left of the text without its repetition; open unless whitespace at the seam is to be looked at."""
        lead = self._release()
        if repeated:
            self.dropped += len(lead) + repeated
            text = text[repeated:]
        else:
            text = lead + text
        again = repeated or self._prefill or not self._text
        self._open = not (self._tail and again)
        return text

    def _seam(self, text: str, *, final: bool) -> str:
        """Drop what comes again of the whitespace that the partial text ended with."""
        tail = self._tail
        if not final and (not text or text.isspace()) and self._size + len(text) < len(tail):
            self._hold(text)
            return ""
        text = self._release() + text
        self._open = True
        cut = _come_again(tail, text[: len(tail)])
        self.dropped += cut
        return text[cut:]

    # -- the repetition -----------------------------------------------------------------------------------------

    def _match(self, piece: str, *, final: bool) -> tuple[int, str] | None:
        """
        How many characters repeat the end of the partial text, and all of the new text so far; None: not known yet.
        """
        text, start, matched = self._text, self._start, self._matched
        at = start + matched
        if matched and not final and at + len(piece) < len(text) and text.startswith(piece, at):
            self._matched += len(piece)
            self._extend(text, start, self._matched)
            return None
        new = text[start:at] + piece
        if not new:
            return 0, new
        at, matched = self._align(new, at, matched, final=final)
        if at < len(text):
            if not matched:
                return 0, new
        else:
            matched = self._valid(new, matched)
            if not (matched == len(new) and matched and self._tail and not final):
                return matched, new
        self._start, self._matched = at - matched, matched
        self._extend(new, 0, matched)
        return None

    def _extend(self, new: str, offset: int, size: int) -> None:
        """Make the failure table of ``new[offset:]`` as long as ``size``."""
        fails = self._fails
        for length in range(len(fails), size + 1):
            last = new[offset + length - 1]
            border = fails[-1]
            while border and new[offset + border] != last:
                border = fails[border]
            fails.append(border + (new[offset + border] == last))

    def _align(self, new: str, at: int, matched: int, *, final: bool) -> tuple[int, int]:
        """
        Move on in the partial text to where all of the new text stands, or to its end.

        Gives the place and how much of the new text ends there: nothing, before the end, when it stands nowhere.
        """
        text, fails, size = self._text, self._fails, len(new)
        while at < len(text):
            if not matched:
                at = self._next_start(new, at)
                if at < 0:
                    return 0, 0
                matched = min(size, self._least, len(text))
                at += matched
            elif matched < size and text[at] == new[matched]:
                at += 1
                matched += 1
            elif matched == size and not final:
                break
            else:
                self._extend(new, 0, matched)
                matched = fails[matched]
                while matched and not self._begins(at - matched):
                    matched = fails[matched]
        return at, matched

    def _next_start(self, new: str, at: int) -> int:
        text = self._text
        needle = new[: min(self._least, len(text))]
        at = text.find(needle, at)
        while at >= 0 and not self._begins(at):
            at = text.find(needle, at + 1)
        return at

    def _begins(self, start: int) -> bool:
        """Whether a repetition may begin at this place of the partial text."""
        if not start and self._whole:
            return True
        text = self._text
        return start <= len(text) - self._least and not (start and _one_word(text[start - 1], text[start]))

    def _valid(self, new: str, matched: int) -> int:
        """The longest repetition of those that end with the partial text, 0 for none."""
        text, fails = self._text, self._fails
        while matched:
            follows = new[matched : matched + 1]
            if self._begins(len(text) - matched) and not (self._tail and follows and _one_word(text[-1], follows)):
                break
            self._extend(new, 0, matched)
            matched = fails[matched]
        return matched


def _one_word(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and left < _UNSPACED and right < _UNSPACED


def _reach_of_different(text: str) -> int:
    """How many of the last characters hold enough different ones; one more than there are when too many would."""
    seen = set()
    for count, each in enumerate(reversed(text[-_SEARCHED:]), start=1):
        seen.add(each)
        if len(seen) == _LEAST_DIFFERENT:
            return count
    return len(text) + 1


def _come_again(tail: str, text: str) -> int:
    """How many characters at the beginning of a text are whitespace given before: its beginning or its end."""
    space = text[: len(text) - len(text.lstrip())]
    same = next((at for at, (old, new) in enumerate(zip(tail, space, strict=False)) if old != new), len(space))
    for length in range(min(len(space), _LONGEST_END), same, -1):
        if tail.endswith(space[:length]):
            return length
    return same
