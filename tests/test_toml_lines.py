"""
Every key of a TOML text is found on its own line, however it is written.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llm_master.toml_lines import Place, key_lines

EVERYTHING = '''# a comment = 1 [not.a.table]
top = 2
"quoted.key" = 3
'literal "key"' = 4
"esc\\u0061ped\\t" = 5
dotted . "a.b" .c = 6
text = """
[not.a.header]
no = 7
\\""" "" still inside """""
after = 11
raw = \'\'\'
no = 0 \\\'\'\'\'\'
after_raw = 14
one = "a # [b] \\" ="
date = 1979-05-27 07:32:00Z # a comment
list = [ # [
    18, "]", # ]
    [19,
     20], { deep = 20, "x.y".z = 20 },
]
inline = { a = { b = 22, c = "}" }, d = [22, 22] }

[table]  # header
key = 25
[table.sub."q.r"]
key = 27
[[array]]
key = 29
[array.sub]
key = 31
[[array]]
key = 33
[[array.inner]]
key = 35
[[array.inner]]
key = 37
[late.child]
key = 39
[late]
key = 41
'''


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every place of a document with its value."""
    if place:
        yield place, value
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from leaves(each, (*place, key))


def assert_right(text: str) -> None:
    """Every integer of the document is the number of its line; every place is known and no other."""
    document, lines = tomllib.loads(text), key_lines(text)
    assert lines.keys() == {place for place, _ in leaves(document)}
    for place, value in leaves(document):
        if isinstance(value, int) and value:
            assert lines[place] == value, place


def test_every_form_of_key_and_value() -> None:
    assert_right(EVERYTHING)
    assert_right(EVERYTHING.replace("\n", "\r\n"))
    lines = key_lines(EVERYTHING)
    assert lines["table",] == 24
    assert lines["table", "sub"] == 26
    assert lines["array", 0] == 28
    assert lines["array", 1] == 32
    assert lines["array", 1, "inner", 1] == 36
    assert lines["late",] == 40
    assert lines["list", 2, 1] == 20
    assert lines["text",] == 7
    assert lines["one",] == 15


def test_an_empty_text_has_no_keys() -> None:
    assert key_lines("") == {}
    assert key_lines("# only = this") == {}


class Writer:
    """Writes values as TOML; every integer becomes the number of the line it stands on."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.used = 0

    def name(self) -> str:
        """A name that no other key has, bare or quoted."""
        self.used += 1
        return self.draw(st.sampled_from(["k{0}", '"k.{0}"', "'k [{0}] #'", '"\\u00e9 \\"{0}"'])).format(self.used)

    def line(self) -> int:
        return self.text.count("\n") + 1

    def value(self, depth: int) -> None:
        kind = self.draw(st.sampled_from(["int", "text", "long", "rawlong", "list", "inline"][: 4 if depth > 2 else 6]))
        if kind == "int":
            self.text += str(self.line())
        elif kind in ("text", "long", "rawlong"):
            quote = {"text": '"', "long": '"""', "rawlong": "'''"}[kind]
            inner = self.draw(
                st.sampled_from(["", "a = 1 # [x]", "]},", "'"] if kind != "rawlong" else ["", "]} #", '"""'])
            )
            middle = "" if kind == "text" else self.draw(st.sampled_from(["", "\n[x]\n", "\nk = 9\n"]))
            self.text += f"{quote}{middle}{inner}{' ' if inner else ''}{quote}"
        elif kind == "list":
            self.text += "["
            for _ in range(self.draw(st.integers(0, 3))):
                self.text += self.draw(st.sampled_from(["", "\n", " # ] ,\n", "\n\n  "]))
                self.value(depth + 1)
                self.text += self.draw(st.sampled_from([",", " ,", "\n,", ", # [\n"]))
            self.text += "]"
        else:
            self.text += "{ "
            for number in range(self.draw(st.integers(0, 3))):
                self.text += (", " if number else "") + self.name() + self.draw(st.sampled_from([" = ", ".x = "]))
                self.value(depth + 1)
            self.text += " }"

    def pairs(self) -> None:
        for _ in range(self.draw(st.integers(0, 3))):
            self.text += self.draw(st.sampled_from(["", "# k = [\n", "\n", "  "])) + self.name()
            self.text += self.draw(st.sampled_from(["=", " = ", " . a.b = "]))
            self.value(0)
            self.text += self.draw(st.sampled_from(["\n", " # x = 1\n"]))


@given(st.data())
def test_any_document(data: st.DataObject) -> None:
    writer = Writer(data.draw)
    writer.pairs()
    arrays: list[str] = []
    for _ in range(data.draw(st.integers(0, 4))):
        form = data.draw(st.sampled_from(["table", "array", "again", "below"]))
        if form in ("again", "below") and arrays:
            old = data.draw(st.sampled_from(arrays))
            writer.text += f"[[{old}]]\n" if form == "again" else f"[ {old} . {writer.name()} ]\n"
        elif form == "table":
            writer.text += f"[{writer.name()}.{writer.name()}]\n"
        else:
            arrays.append(writer.name())
            writer.text += f"[[{arrays[-1]}]] # new\n"
        writer.pairs()
    assert_right(writer.text)
