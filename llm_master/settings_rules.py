"""
What a value of the settings file may be, and a reader that finds every mistake of a table and not only the first.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from llm_master.config import _url_problem as url_problem
from llm_master.errors import InvalidRequestError
from llm_master.params import check as check_params
from llm_master.params import check_model_name
from llm_master.redaction import redact, shown
from llm_master.toml_lines import Place

__all__ = ["Problem", "Reader", "Rule", "choice", "nearest"]


class Problem(msgspec.Struct, frozen=True):
    """One mistake of a settings file: its line, counted from 1, and what to do about it, in one line."""

    line: int
    text: str


class Rule(msgspec.Struct, frozen=True):
    """
    One setting.

    Attributes:
        read: gives the value as the settings hold it, or raises ValueError; its text, if any, beats ``want``.
        want: what to give instead of a wrong value.
        secret: whether a wrong value may be a key and is never shown.
    """

    read: Callable[[Any], Any]
    want: str
    secret: bool = False


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely means, None when none is near."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, 1)
    if near:
        return near[0]
    # "rpm" for "rate_limit_rpm", and the other way round.
    return next((each for each in names if each.endswith(f"_{name}") or name.endswith(f"_{each}")), None)


def _number(value: Any, *, low: float, above: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < math.inf:
        raise ValueError
    if above and value == low:
        raise ValueError
    return float(value)


def _limit(value: Any) -> float | None:
    return None if isinstance(value, float) and value == math.inf else _number(value, low=0.0, above=True)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(map(_text, value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004  # a rule has one way to say no
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value


def _model(value: Any) -> str:
    try:
        check_model_name(value)
    except InvalidRequestError as error:
        raise ValueError from error
    return str(value)


def _variable(value: Any) -> str:
    # A key can look like a name: a vendor's prefix, or a long mixture of letters and digits, gives it away.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) or redact(value) != value:
        raise ValueError
    if len(value) >= 20 and re.search("[a-z]", value) and re.search("[0-9]", value):
        raise ValueError
    return value


def _address(value: Any, *, full: bool) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004  # a rule has one way to say no
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError("it holds a user name or password; leave them out and name the key's variable in api_key_env")
    if not full and ("?" in value or "#" in value):
        raise ValueError("it holds a query; give a full endpoint as api_url of [providers.NAME]")
    problem = url_problem(value, "", full=full)
    if problem:
        raise ValueError(f"it {problem}")
    return value if full else value.rstrip("/")


def choice(*words: str) -> Rule:
    """One of several words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            near = nearest(value, words) if isinstance(value, str) else None
            wanted = ", ".join(f'"{word}"' for word in words)
            raise ValueError(f"give one of {wanted}" + (f'; did you mean "{near}"?' if near else ""))
        return value

    return Rule(read, "")


def params_of(model: str, value: Any) -> str | None:
    """What is wrong with the parameters of a fallback, None when nothing is."""
    try:
        msgspec.json.encode(value)
        check_params(model, value)
    except InvalidRequestError as error:
        return str(error)
    return None


SECONDS_LIMIT = Rule(_limit, "give a number of seconds above 0, or inf for no limit")
SECONDS = Rule(lambda value: _number(value, low=0.0), "give a number of seconds of at least 0")
COUNT = Rule(_count, "give a whole number of at least 1")
PRICE = Rule(lambda value: _number(value, low=0.0), "give USD per million tokens, a number of at least 0")
USD = Rule(lambda value: _number(value, low=0.0, above=True), "give USD, a number above 0")
WEIGHT = Rule(lambda value: _number(value, low=0.0, above=True), "give a number above 0")
FLAG = Rule(_flag, "give true or false")
TEXT = Rule(_text, "give a text in quotes")
TEXTS = Rule(_texts, 'give a list of texts in quotes: ["prices.csv"]')
MODEL = Rule(_model, 'give a model\'s name in quotes, such as "gpt-4.1"')
BASE_URL = Rule(lambda value: _address(value, full=False), 'give an address such as "https://host/v1"', secret=True)
API_URL = Rule(
    lambda value: _address(value, full=True), 'give a full endpoint such as "https://host/v1/chat"', secret=True
)
VARIABLE = Rule(
    _variable, 'give the NAME of an environment variable, such as "OPENAI_API_KEY", never the key itself', secret=True
)

# Names under which people put a secret into a file.
_SECRETS = frozenset(("key", "apikey", "token", "apitoken", "secret", "password", "authorization", "redisurl"))
_SECRETS |= {"postgres", "postgresurl", "postgresql", "postgresqlurl", "databaseurl", "dsn"}


class Reader:
    """
    Reads tables against their rules and gathers what is wrong.

    Args:
        lines: the line of each key, see ``toml_lines``.
        homes: setting -> the section it belongs into, for one that stands in a wrong place.
    """

    def __init__(self, lines: Mapping[Place, int], homes: Mapping[str, str]) -> None:
        self._lines = lines
        self._homes = homes
        self.problems: list[Problem] = []

    def wrong(self, place: Place, text: str) -> None:
        """Note a mistake; its line is that of the nearest place that has one."""
        while place and place not in self._lines:
            place = place[:-1]
        problem = Problem(self._lines.get(place, 1), " ".join(redact(text).split()))
        if problem not in self.problems:
            self.problems.append(problem)

    def is_table(self, place: Place, value: Any) -> bool:
        """Whether the value is a table; a mistake is noted when it is not."""
        if isinstance(value, dict):
            return True
        name = written(place)
        self.wrong(place, f"{name} must be a table: write [{name}] and its settings below it")
        return False

    def unknown(self, place: Place, known: Iterable[str], value: Any = None) -> None:
        """Note a key that nothing reads."""
        name, home = str(place[-1]), written(place[:-1])
        where = f"in [{home}]" if home else "at the top of the file"
        if re.sub("[_-]", "", name.lower()) in _SECRETS and not isinstance(value, dict):
            variable = "postgres_url_env" if home == "ledger" else "api_key_env"
            variable = "redis_url_env" if "redis" in name.lower() else variable
            self.wrong(
                place,
                f"{name} {where}: a secret must not stand in this file; put it into an environment variable"
                f" and give that variable's name as {variable}",
            )
            return
        known = sorted(known)
        near = nearest(name, known)
        if near is None and name in self._homes:
            hint = f"it belongs into [{self._homes[name]}]"
        elif near is not None:
            hint = f"did you mean {near!r}?"
        else:
            hint = f"known are {', '.join(known)}"
        self.wrong(place, f"unknown setting {shown(name)} {where}; {hint}")

    def table(
        self, place: Place, table: Mapping[str, Any], rules: Mapping[str, Rule], *, apart: Iterable[str] = ()
    ) -> dict[str, Any]:
        """
        The values of a table that are right, by name.

        Args:
            place: where it stands.
            table: as it was read.
            rules: what each setting may be.
            apart: names that the caller reads itself.
        """
        found = {}
        for name, value in table.items():
            if name in rules:
                try:
                    found[name] = rules[name].read(value)
                except ValueError as error:
                    self._refuse((*place, name), value, rules[name], str(error))
            elif name not in apart:
                self.unknown((*place, name), (*rules, *apart), value)
        return found

    def _refuse(self, place: Place, value: Any, rule: Rule, reason: str) -> None:
        what = f"{place[-1]} is not accepted" if rule.secret else f"{place[-1]} = {_toml(value)} is not accepted"
        self.wrong(place, f"{what}: {reason or rule.want}")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value) if isinstance(value, (str, int, float)) else f"of type {type(value).__name__}"


def written(place: Place) -> str:
    """A place as a header names it, positions in arrays left out."""
    names = [each for each in place if isinstance(each, str)]
    return ".".join(name if re.fullmatch("[A-Za-z0-9_-]+", name) else f'"{name}"' for name in names)
