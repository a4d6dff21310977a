"""
A cut answer goes on elsewhere: what the next target is asked, and that nothing given is given again or lost.
"""

from __future__ import annotations

import copy
import random
import sys
from typing import Any, Self

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_master.policy import continuation
from llm_master.policy.continuation import (
    INSTRUCTION,
    LEAST,
    LEAST_PREFILLED,
    LEAST_WHOLE,
    Joiner,
    continued,
    said,
)

ASK = {"role": "user", "content": "Count to ten."}
GO_ON = {"role": "user", "content": INSTRUCTION}
BOTH = pytest.mark.parametrize("prefill", [False, True])


# -- the messages -------------------------------------------------------------------------------------------------


def turn(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize(
    ("messages", "partial", "prefill", "expected"),
    [
        ([ASK], "One, two, \n", True, [ASK, turn("One, two,")]),
        ([ASK], "One, two, ", False, [ASK, turn("One, two, "), GO_ON]),
        # Nothing was said yet: the same is asked again.
        ([ASK], " \n", True, [ASK]),
        ([ASK], "", False, [ASK]),
        # The caller's own beginning is one turn with the partial text.
        ([ASK, turn("Sure: ")], "One, two, ", True, [ASK, turn("Sure: One, two,")]),
        ([ASK, turn("Sure: ")], "One, two, ", False, [ASK, turn("Sure: One, two, "), GO_ON]),
        ([ASK, turn("Sure: ")], " One", True, [ASK, turn("Sure: One")]),
        ([ASK, turn("Sure:", name="Ada")], " One", True, [ASK, turn("Sure: One", name="Ada")]),
        ([ASK, turn("Sure: ")], " ", True, [ASK, turn("Sure: ")]),
        (
            [ASK, turn([{"type": "text", "text": "A"}, {"type": "text", "text": "B ", "x": 1}])],
            "c d ",
            True,
            [ASK, turn([{"type": "text", "text": "A"}, {"type": "text", "text": "B c d", "x": 1}])],
        ),
        (
            [ASK, turn([{"type": "file", "file": {}}])],
            "c",
            True,
            [ASK, turn([{"type": "file", "file": {}}, {"type": "text", "text": "c"}])],
        ),
        ([ASK, turn([])], "c", False, [ASK, turn([{"type": "text", "text": "c"}]), GO_ON]),
        (
            [ASK, turn([{"type": "refusal", "text": "no"}])],
            "c",
            True,
            [ASK, turn([{"type": "refusal", "text": "no"}, {"type": "text", "text": "c"}])],
        ),
        (
            [ASK, turn([{"type": "text", "text": None}])],
            "c",
            True,
            [ASK, turn([{"type": "text", "text": None}, {"type": "text", "text": "c"}])],
        ),
        ([ASK, turn("x", function_call={})], "c", True, [ASK, turn("xc", function_call={})]),
        (
            [ASK, turn("x", function_call={"name": "f"})],
            "c",
            True,
            [ASK, turn("x", function_call={"name": "f"}), turn("c")],
        ),
        # A turn that calls tools, or says nothing, is no beginning of this one.
        ([ASK, turn("x", tool_calls=[1])], "c", True, [ASK, turn("x", tool_calls=[1]), turn("c")]),
        ([ASK, turn(None, opaque={})], "c", True, [ASK, turn(None, opaque={}), turn("c")]),
        ([], "c", True, [turn("c")]),
    ],
)
def test_the_messages_that_ask_for_the_rest(
    messages: list[dict[str, Any]], partial: str, prefill: bool, expected: list[dict[str, Any]]
) -> None:
    before = copy.deepcopy(messages)
    found = continued(messages, partial, prefill=prefill)
    assert found == expected
    assert messages == before
    assert found is not messages
    assert all(new is old for new, old in zip(found[:-2], messages, strict=False))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "One"),
        ([ASK], "One"),
        ([ASK, turn("Sure: ")], "Sure: One"),
        (
            [ASK, turn([{"type": "text", "text": "Su"}, {"type": "file"}, {"type": "text", "text": "re: "}])],
            "Sure: One",
        ),
        ([ASK, turn("x", tool_calls=[1])], "One"),
    ],
)
def test_the_turn_so_far_has_the_callers_own_beginning(messages: list[dict[str, Any]], expected: str) -> None:
    assert said(messages, "One") == expected
    assert said([ASK, turn("Sure: ")], " One") == "Sure: One"


# -- the seam -----------------------------------------------------------------------------------------------------


def join(partial: str, new: str, prefill: bool = False, step: int = 1) -> str:
    joiner = Joiner(partial, prefill=prefill)
    shown = "".join(joiner.feed(new[at : at + step]) for at in range(0, len(new), step)) + joiner.end()
    assert shown == new[joiner.dropped :], "only a beginning is dropped, and it is counted"
    return shown


CUT = "The quick brown fox jumps over the lazy dog. It runs into the wo"


@BOTH
@pytest.mark.parametrize(
    ("partial", "new", "shown"),
    [
        (CUT, "ods and hides.", "ods and hides."),
        (CUT, CUT + "ods.", "ods."),
        (CUT, "\n\n" + CUT + "ods.", "ods."),
        (CUT, "It runs into the woods.", "ods."),
        (CUT, " runs into the woods.", "ods."),
        # What only begins like a repetition is new.
        (CUT, "It runs into trouble.", "It runs into trouble."),
        (CUT, "It runs into the w", "It runs into the w"),
        (CUT, CUT[:-1], CUT[:-1]),
        # It begins in the middle of a word.
        (CUT, "uns into the woods", "uns into the woods"),
        ("Hel", "lo", "lo"),
        ("1 0", "0 1", "0 1"),
        ("the ", "theory", "theory"),
        ("We saw international ", "internationally", "internationally"),
        ("ha", "ha", "ha"),
        ("----", "----\n", "----\n"),
        ("1, 0, 0, 0, 0, 0, 0, 0, 0,", " 0, 0, 0, 0, 0, 0, 0, 0, 1", " 0, 0, 0, 0, 0, 0, 0, 0, 1"),
        ("| a | b |\n|-----|-----|-----|", "-----|-----|-----|\n| 1", "-----|-----|-----|\n| 1"),
        # The whole of it, however short.
        ("The", "The cat", " cat"),
        ("The ", "The cat", "cat"),
        ("Hel", "Hello", "lo"),
        ("\n The", "The cat", " cat"),
        # Whitespace that was given already comes again after a repetition, or not.
        ("One two three. ", "One two three. Four", "Four"),
        ("One two three. ", "One two three.\nFour", "\nFour"),
        ("One two three.\n", "One two three.\n\nFour", "\nFour"),
        ("One two three.\n\n", "One two three.\nFour", "Four"),
        ("One two three. \n", "One two three.\nFour", "Four"),
        ("One two three.\n    ", "One two three.\n  four", "four"),
        ("One two three. ", "One two three.", ""),
        # Words without spaces between them.
        ("谈判持续的时间比预期的要长因为管理层要求修改合同内容", "因为管理层要求修改合同内容和文件", "和文件"),
        ("", "Hello", "Hello"),
        ("", "", ""),
        # Nothing but whitespace was said, so nothing was sent.
        ("\n\n", "\nHello", "Hello"),
        (" ", " \n", "\n"),
        (" \n", "", ""),
    ],
)
def test_what_of_a_continuation_is_new(partial: str, new: str, shown: str, prefill: bool) -> None:
    assert {join(partial, new, prefill, step) for step in (1, 3, 1000)} == {shown}


@pytest.mark.parametrize(
    ("partial", "new", "after_prefill", "by_instruction"),
    [
        # A model that goes on from a prefill repeats whitespace that was not sent; by instruction it was sent.
        ("One two ", " three", "three", " three"),
        ("One two ", "three", "three", "three"),
        ("One two.\n", "\n\nThree", "\nThree", "\n\nThree"),
        ("One two.\n\n", "\nThree", "Three", "\nThree"),
        ("One two. ", "\n\nThree", "\n\nThree", "\n\nThree"),
        ("One two. ", " ", "", " "),
        ("def f():\n    ", "\n    return 1", "return 1", "\n    return 1"),
        # Few words again: after a prefill they are meant.
        ("and very slowly", "very slowly it", "very slowly it", " it"),
        ("and so slowly", "so slowly it", "so slowly it", " it"),
        ("and so slow", "so slow it", "so slow it", "so slow it"),
        ("and yet so slowly", "yet so slowly it", " it", " it"),
    ],
)
def test_prefill_and_instruction_differ(partial: str, new: str, after_prefill: str, by_instruction: str) -> None:
    for step in (1, 3, 1000):
        assert join(partial, new, prefill=True, step=step) == after_prefill
        assert join(partial, new, prefill=False, step=step) == by_instruction


def test_the_least_lengths_are_those_documented() -> None:
    assert (LEAST, LEAST_PREFILLED, LEAST_WHOLE) == (8, 12, 3)
    for prefill, least in ((False, 8), (True, 12)):
        words = "abcdefghijkl"[:least]
        assert join(f"x {words}", f"{words}z", prefill) == "z"
        assert join(f"x {words[1:]}", f"{words[1:]}z", prefill) == f"{words[1:]}z"
        assert join(f"x{words}", f"{words}z", prefill) == f"{words}z", "not where a word begins"
    assert join("x aaaabbbbccccdddd", "aaaabbbbccccddddz") == "aaaabbbbccccddddz", "four different characters"
    assert join("x aaaabbbbccccddde", "aaaabbbbccccdddez") == "z", "five"


def test_of_several_repetitions_the_longest_counts() -> None:
    assert join("so ho ho abcd, ho ho abcd,", "ho ho abcd, ho ho abcd, end") == " end"
    # The longest breaks off, a shorter one is whole.
    assert join("so ho ho abcd, ho ho abcd,", "ho ho abcd, ho he") == " ho he"
    # The word of the longest goes on, though it was complete; a shorter one's does not.
    assert join("ab cdefg ab cdefg ab cdefg ", "ab cdefg ab cdefgh") == "ab cdefgh"
    # The text so far fits at the beginning of the partial text, then only further on.
    assert {join("ab cdefg ab cdefg ab cdefgh", "ab cdefg ab cdefgh Z", step=step) for step in range(1, 21)} == {" Z"}


def test_what_is_searched_for_has_an_end() -> None:
    assert join("x abcd" + "e" * 996, "abcd" + "e" * 996 + "!") == "!"
    assert len(join("x abcd" + "e" * 997, "abcd" + "e" * 997 + "!")) == 1002
    for length, shown in ((64, "Two"), (65, "\n" + " " * 64 + "Two")):
        space = "\n" + " " * (length - 1)
        assert join("One.\t" + space, space + "Two", prefill=True) == shown
        assert join("One." + space, space + "Two", prefill=True) == "Two", "the beginning, however long"


# -- when it is shown ---------------------------------------------------------------------------------------------


@BOTH
def test_only_what_may_be_a_repetition_is_held_back(prefill: bool) -> None:
    joiner = Joiner(CUT, prefill=prefill)
    assert [joiner.feed(piece) for piece in ("\n", "It run", "s into ", "town", " fast")] == [
        "",
        "",
        "",
        "\nIt runs into town",
        " fast",
    ]
    assert (joiner.end(), joiner.dropped) == ("", 0)
    assert Joiner(CUT, prefill=prefill).feed("ods") == "ods"
    # "and" stands in a word only, so nothing can begin with it.
    assert Joiner("A grand old house stands here and", prefill=prefill).feed("n") == "n"


def test_whitespace_at_the_seam_waits_for_no_more_than_was_given() -> None:
    joiner = Joiner("One two.\n\n", prefill=True)
    assert [joiner.feed(piece) for piece in ("\n", "\n", "", "\n", "Three")] == ["", "", "", "", "\nThree"]
    again = Joiner("One two.\n\n", prefill=True)
    assert [again.feed(piece) for piece in ("One two.", "\n", "\n", "\n", "x")] == ["", "", "", "\n", "x"]
    assert again.dropped == 10
    early = Joiner("One two.\n\n", prefill=True)
    assert (early.feed("One two."), early.feed("\n\n"), early.dropped) == ("", "", 10)
    assert Joiner("One two.\n\n\n\n", prefill=True).feed("Th") == "Th"


def test_after_the_end_nothing_is_left() -> None:
    joiner = Joiner(CUT, prefill=False)
    assert (joiner.feed("It runs"), joiner.end(), joiner.end()) == ("", "It runs", "")
    assert Joiner(CUT, prefill=False).end() == ""


# -- any text, any pieces -----------------------------------------------------------------------------------------


def first_space(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def one_word(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and max(left, right) < "\u2e80"


def plainly(partial: str, new: str, prefill: bool) -> str:
    """What is new, by trying every length."""
    text, tail = partial.strip(), partial[len(partial.rstrip()) :]
    cut, repeated = len(first_space(new)), 0
    body = new[cut:]
    for length in range(1, min(len(text), len(body)) + 1):
        if body[:length] != text[-length:]:
            continue
        start = len(text) - length
        whole = not start and length >= 3 and len(set(text)) > 1
        long = length >= (12 if prefill else 8) and len(set(body[:length])) >= 5
        begins = not start or not one_word(text[start - 1], text[start])
        ends = not tail or length == len(body) or not one_word(text[-1], body[length])
        if (whole or (long and begins)) and ends:
            repeated = length
    cut = cut + repeated if repeated else 0
    if repeated or prefill or not text:
        space = first_space(new[cut:])
        cut += max(
            (n for n in range(len(space) + 1) if tail.startswith(space[:n]) or tail.endswith(space[:n])), default=0
        )
    return new[cut:]


def fed(joiner: Joiner, new: str, cuts: list[int]) -> str:
    shown, at = "", 0
    for size in cuts:
        shown += joiner.feed(new[at : at + size])
        at += size
    return shown + joiner.feed(new[at:]) + joiner.end()


CUTS = st.lists(st.integers(0, 9), max_size=12)
ALPHABETS = ["ab ", "abcde ", "abcdefg \n.", "a1 ,", "\n\t a", "谈判a\uff0c", "a\u0301é🎉 "]


@st.composite
def seams(draw: st.DrawFn) -> tuple[str, str]:
    """A partial text and one that often repeats a stretch of it; small alphabets make accidents."""
    letters = st.text(draw(st.sampled_from(ALPHABETS)), max_size=25)
    partial = (
        draw(letters) * draw(st.integers(1, 4)) + draw(letters) + draw(st.sampled_from(["", "", " ", "\n", " \n"]))
    )
    begin = draw(st.integers(0, len(partial)))
    end = draw(st.integers(begin, len(partial)) | st.just(len(partial)))
    return partial, draw(st.sampled_from(["", "\n"])) + partial[begin:end] + draw(letters)


@given(seams(), st.booleans(), CUTS)
def test_any_pieces_give_what_a_plain_search_gives(seam: tuple[str, str], prefill: bool, cuts: list[int]) -> None:
    partial, new = seam
    joiner = Joiner(partial, prefill=prefill)
    shown = fed(joiner, new, cuts)
    assert shown == plainly(partial, new, prefill)
    assert shown == new[joiner.dropped :]


# Each word stands once, so nothing repeats itself by accident.
WORDS = st.lists(
    st.tuples(
        st.text("abcdefgé谈", min_size=1, max_size=6), st.sampled_from([" ", " ", " ", ", ", ".\n\n", "\n  ", " - "])
    ),
    min_size=6,
    max_size=20,
    unique_by=lambda word: word[0],
).map(lambda words: "".join(f"{word}{number}{gap}" for number, (word, gap) in enumerate(words)).rstrip())


@given(WORDS, st.data(), st.booleans())
def test_what_is_held_back_could_still_be_dropped(text: str, data: st.DataObject, prefill: bool) -> None:
    words = [at for at in range(len(text)) if not text[at].isspace() and text[at - 1 : at] in ("", " ")]
    begin = data.draw(st.sampled_from(words))
    new = text[begin : data.draw(st.integers(begin + 1, len(text)))]
    joiner = Joiner(text, prefill=prefill)
    shown = joiner.feed(new)
    if new[joiner.dropped + len(shown) :].strip():
        futures = [new + text[start:] for start in range(len(text) + 1)]
        assert any(plainly(text, future, prefill) != future for future in futures)
    else:
        least = LEAST_PREFILLED if prefill else LEAST
        short = len(text) - begin < least or len(set(text[begin:])) < 5
        assert short or text.endswith(new), "it was given up early"


@given(WORDS, st.data(), st.booleans(), CUTS)
def test_any_text_cut_anywhere_comes_out_whole(text: str, data: st.DataObject, prefill: bool, cuts: list[int]) -> None:
    cut = data.draw(st.integers(14, len(text)))
    partial, rest = text[:cut], text[cut:]
    # After a prefill the first whitespace is taken for that which was not sent; by instruction it is not.
    assume(not (prefill and partial[-1:].isspace() and rest[:1].isspace()))
    assert fed(Joiner(partial, prefill=prefill), rest, cuts) == rest


@given(WORDS, st.data(), st.booleans(), CUTS)
def test_what_was_given_is_never_given_again(text: str, data: st.DataObject, prefill: bool, cuts: list[int]) -> None:
    cut = data.draw(st.integers(14, len(text)))
    partial, rest = text[:cut], text[cut:]
    least = LEAST_PREFILLED if prefill else LEAST
    starts = [
        at
        for at in range(1, len(partial.rstrip()) - least + 1)
        if not partial[at].isspace() and not one_word(partial[at - 1], partial[at])
        if len(set(partial[at:].rstrip())) >= 5
    ]
    again = partial[data.draw(st.sampled_from([0, *starts])) :]
    assert fed(Joiner(partial, prefill=prefill), again + rest, cuts) == rest


# -- long texts ---------------------------------------------------------------------------------------------------


class Steps:
    """Counts the lines that a joiner executes: work, whatever the machine does meanwhile."""

    def __init__(self) -> None:
        self.lines = 0

    def _trace(self, frame: Any, event: str, _arg: Any) -> Any:
        if frame.f_code.co_filename != continuation.__file__:
            return None
        self.lines += event == "line"
        return self._trace

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def long_text(size: int) -> str:
    chance = random.Random(5)
    return " ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(size // 7))


def lines_of(partial: str, new: str, step: int) -> tuple[int, int, str]:
    """Lines executed in all and in the worst feed, and what was shown."""
    total = worst = 0
    shown = ""
    joiner = Joiner(partial, prefill=False)
    for at in range(0, len(new), step):
        with Steps() as steps:
            shown += joiner.feed(new[at : at + step])
        total += steps.lines
        worst = max(worst, steps.lines)
    with Steps() as steps:
        shown += joiner.end()
    return total + steps.lines, max(worst, steps.lines), shown


LONG = {
    "exact": lambda text: (text, " new words"),
    "whole": lambda text: (text, text + " new words"),
    "broken off": lambda text: (text, text[:-5] + "XYZ new"),
    "period": lambda text: ("abcdefg " * (len(text) // 8), "abcdefg " * (len(text) // 16) + "XYZ"),
    "one letter": lambda text: ("a" * len(text) + " bcdef ghi", "a" * (len(text) // 2) + " x"),
    "blank": lambda text: ("abc" + " " * len(text), " " * len(text) + "x"),
}


@pytest.mark.parametrize("kind", LONG)
def test_work_grows_with_the_text_and_no_faster(kind: str) -> None:
    small, large = (lines_of(*LONG[kind](long_text(size)), step=40)[0] for size in (2_000, 16_000))
    assert large <= 9 * small + 500


@pytest.mark.parametrize("kind", ["exact", "whole", "broken off"])
def test_a_feed_does_no_more_than_its_piece_asks_for(kind: str) -> None:
    _, worst, shown = lines_of(*LONG[kind](long_text(20_000)), step=40)
    assert worst <= 40 * 12
    assert shown == {"exact": " new words", "whole": " new words"}.get(kind, shown)
