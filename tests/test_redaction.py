"""
Redaction: no credential survives in a text, prose does, and a Secret never shows itself.
"""

from __future__ import annotations

import copy
import pickle
import sys
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master.redaction import REDACTED, Secret, redact, shown

# name of the shape -> (text, the part that must be gone)
LEAKS = {
    "sk": ("Incorrect API key provided: sk-abcdefABCDEF123456.", "sk-abcdefABCDEF123456"),
    "sk-ant": ("key sk-ant-api03-AbC_dEf-123 is revoked", "sk-ant-api03-AbC_dEf-123"),
    "sk masked by the provider": ("provided: sk-abcd********wxyz", "sk-abcd********wxyz"),
    "groq": ("gsk_abcdef123456 is not valid", "gsk_abcdef123456"),
    "groq, small letters only": ("gsk_abcdefgh", "gsk_abcdefgh"),
    "google": ("?key was AIzaSyD-1234567890abcdef", "AIzaSyD-1234567890abcdef"),
    "hugging face": ("hf_abcdefGHIJKL", "hf_abcdefGHIJKL"),
    "perplexity": ("pplx-0123456789abcdef", "pplx-0123456789abcdef"),
    "slack": ("xoxb-123456-abcdef", "xoxb-123456-abcdef"),
    "slack app": ("xapp is fine, xoxp-99999-1", "xoxp-99999-1"),
    "aws": ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    "xai": ("xai-AbCdEf0123456789", "xai-AbCdEf0123456789"),
    "nvidia": ("nvapi-AbCdEf0123456789", "nvapi-AbCdEf0123456789"),
    "github": ("ghp_AbCdEf0123456789", "ghp_AbCdEf0123456789"),
    "replicate": ("r8_AbCdEf0123456789", "r8_AbCdEf0123456789"),
    "jwt": ("got eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM", "eyJzdWIiOiIx"),
    "bearer": ("header was bearer abc.def", "abc.def"),
    "bearer, a word": ("Bearer correcthorse", "correcthorse"),
    "authorization": ("Authorization: Bearer secret", "secret"),
    "authorization, fal": ("authorization: Key abc-def", "abc-def"),
    "basic": ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "x-api-key": ("x-api-key: abcd1234", "abcd1234"),
    "x-goog-api-key": ("x-goog-api-key=abcd1234", "abcd1234"),
    "bfl": ("x-key: abcd1234", "abcd1234"),
    "json": ('{"api_key": "abcd1234", "a": 1}', "abcd1234"),
    "json, blanks": ('{"apiKey" : "abcd1234"}', "abcd1234"),
    "json token": ('{"token": "abcd1234"}', "abcd1234"),
    "python": ("api_key='abcd1234'", "abcd1234"),
    "environment": ("OPENAI_API_KEY=abcd1234", "abcd1234"),
    "token": ("GET /?token=abcd1234&x=1", "abcd1234"),
    "query": ("https://host/v1?key=abcd1234", "abcd1234"),
    "password": ("password: hunter22", "hunter22"),
    "userinfo": ("cannot reach https://me:pa55@host/v1", "pa55"),
    "userinfo, @ in the password": ("https://me:p@55w@host/v1", "55w"),
    "userinfo, no password": ("https://tok3n@host/v1", "tok3n"),
}

PROSE = [
    "token count: 12 of 4096",
    "max_tokens=4096 is too large, the model takes max_token=2048",
    "This model's maximum context length is 8192 tokens.",
    "Missing bearer token.",
    "Use bearer authentication, not basic auth.",
    "basic English is enough; the Basic plan too",
    "the task-management-system and risk-assessment-2024",
    "code: key_not_found_error, see key-value-store",
    "hf_hub_download failed for openai/gpt-oss-120b",
    "https://api.openai.com/v1/chat/completions?x=1 and mailto:me@example.com",
    "the key is missing; set OPENAI_API_KEY or LLMConfig(openai_api_key=...)",
    "secret of success, a signature dish, the password is missing",
    "sk-learn",
]


@pytest.mark.parametrize("name", LEAKS)
def test_a_credential_is_masked(name: str) -> None:
    text, gone = LEAKS[name]
    clean = redact(text)
    assert gone not in clean
    assert REDACTED in clean


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("template", ["{}", "({})", "error: {}; try again", '"{}"', "a\n{}\nb", "über {} ende"])
def test_a_credential_is_masked_wherever_it_stands(name: str, template: str) -> None:
    text, gone = LEAKS[name]
    assert gone not in redact(template.format(text))


@pytest.mark.parametrize("text", PROSE)
def test_prose_stays(text: str) -> None:
    assert redact(text) == text


def test_what_surrounds_a_credential_stays() -> None:
    assert redact("Key sk-abcdef123456 was revoked; token count 12") == f"Key {REDACTED} was revoked; token count 12"
    assert redact("https://me:pw@host:8080/v1") == f"https://{REDACTED}@host:8080/v1"
    assert redact('{"api_key": "abcd1234", "model": "m"}') == f'{{"api_key": "{REDACTED}", "model": "m"}}'


@given(st.text(), st.text(), st.text("abcdefghXYZ0123-_ :/@{}\\%+.", min_size=4, max_size=60))
@settings(max_examples=200, deadline=None)
def test_the_callers_own_key_is_masked_whatever_its_shape(before: str, after: str, key: str) -> None:
    clean = redact(f"{before}{key}{after}", key)
    assert key not in clean or key in REDACTED


def test_of_two_keys_where_one_begins_the_other_neither_leaves_a_rest() -> None:
    assert redact("used plum-and-apple", "plum", "plum-and-apple") == f"used {REDACTED}"
    assert redact("used plum-and-apple", "plum-and-apple", "plum") == f"used {REDACTED}"


def test_no_key_and_an_empty_key_change_nothing() -> None:
    assert redact("abc", None, "") == "abc"


@given(st.one_of(st.text(), st.lists(st.sampled_from([t for t, _ in LEAKS.values()] + PROSE)).map(" ".join)))
@settings(max_examples=200, deadline=None)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


# Each takes minutes if a pattern can start at every place of it and run on to its end.
UNITS = ["a", "a.", "a@", "key-", "eyJ-", "eyJaaaaaaaa.", "x://", "x://a:", "password ", "password: ", "bearer ",
         "authorization: ", '"token" ', "token=", "xai-a", "hf_a-", " ", "=", "-", "://@"]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_a_long_awkward_text_is_gone_through_to_its_end(unit: str) -> None:
    clean = redact(unit * (300_000 // len(unit)) + " sk-abcdef123456")
    assert clean.endswith(f" {REDACTED}")


@pytest.mark.parametrize("unit", ["x ", "eyJ-", "a."])
def test_a_megabyte_too(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    assert redact(text) == text


def test_a_secret_is_a_string_that_does_not_show_itself() -> None:
    key = Secret("sk-abcdef123456")
    assert key == "sk-abcdef123456"
    assert f"Bearer {key}" == "Bearer sk-abcdef123456"
    assert {"Authorization": key}["Authorization"].encode() == b"sk-abcdef123456"
    for text in (repr(key), repr([key]), repr({"k": key}), f"{key!r}", f"{key!r}", str({"k": (key,)})):
        assert "sk-abc" not in text
        assert "***" in text
    assert len(repr(Secret("a"))) == len(repr(key))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_no_secret(protocol: int) -> None:
    key = Secret("sk-abcdef123456")
    data = pickle.dumps({"key": key}, protocol)
    assert b"sk-abc" not in data
    assert pickle.loads(data) == {"key": ""}
    assert isinstance(pickle.loads(data)["key"], Secret)


def test_a_copy_in_the_same_process_keeps_the_secret() -> None:
    key = Secret("sk-abcdef123456")
    assert copy.copy(key) is key
    assert copy.deepcopy({"key": [key]}) == {"key": ["sk-abcdef123456"]}


def test_a_traceback_with_locals_shows_no_secret() -> None:
    def fail(key: str) -> None:
        headers = {"x": key}
        raise ValueError(len(headers))

    secret = Secret("sk-" + "abcdef123456")
    try:
        fail(secret)
    except ValueError as error:
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(report.format())
    assert "headers" in text
    assert "sk-abc" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", "'short'"),
        (3, "3"),
        (Secret("sk-abcdef123456"), "'***'"),
        ("x" * 60, "'" + "x" * 60 + "'"),
        ("x" * 61, "'" + "x" * 59 + "... (str)"),
        (b"y" * 100, "b'" + "y" * 58 + "... (bytes)"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1... (list)"),
    ],
)
def test_a_value_in_an_error_is_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_huge_value_is_cut_before_its_repr_is_made() -> None:
    huge = "\x00" * 10_000_000
    before = sys.getsizeof(huge)
    assert len(shown(huge)) < 100 < before


def test_a_value_that_is_nested_too_deeply_is_named() -> None:
    value: object = "x"
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "a list that is nested too deeply"
