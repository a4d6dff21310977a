"""
What is done alike with parameters in OpenAI's two families: refused by name, moved into bounds, renamed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_master.classes import Request
from llm_master.efforts import advice, nearest
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.params import LIMITS

if TYPE_CHECKING:
    from llm_master.dialect_responses import ResponsesDialect
    from llm_master.rows import ChatDialect

__all__ = ["Refusals"]


class Refusals:
    """
    Raises for what cannot be taken, or notes it where the caller lets it be dropped.

    Attributes:
        who: provider and model, as messages name them.
        show: that of the request.
        left_out: what was dropped or changed so far.
    """

    __slots__ = ("_drop", "left_out", "show", "who")

    def __init__(self, request: Request, left_out: list[str] | None = None) -> None:
        self.who = f"{request.provider}/{request.model}"
        self._drop = request.drop_params
        self.show = request.show
        self.left_out: list[str] = [] if left_out is None else left_out

    def refuse(self, parameter: str, why: str, instead: str, entry: str | None = None) -> None:
        """
        Refuse a parameter.

        Args:
            why: the words after ``does not take PARAMETER``.
            instead: the nearest thing that is taken.
            entry: what stands in ``dropped``, the parameter's name if None.
        """
        if not self._drop:
            raise UnsupportedParameterError(
                f"{self.who} does not take {parameter}{why}; {instead}, or pass drop_params=True", parameter=parameter
            )
        self.note(entry or parameter)

    def note(self, entry: str) -> None:
        """List something that was left out or changed."""
        if entry not in self.left_out:
            self.left_out.append(entry)

    def least(self, parameter: str, known: tuple[str, ...]) -> str:
        """Refuse to switch off what cannot be switched off; with drop_params the weakest effort stands for it."""
        least = known[0]
        self.refuse(
            parameter,
            " to switch its reasoning off: it always reasons",
            f"the least is reasoning_effort={least!r}",
            f"{parameter}=none->{least}",
        )
        return least

    def fitting(self, parameter: str, effort: Any, dialect: ChatDialect | ResponsesDialect, *, shown: str) -> Any:
        """
        The effort that is sent, in our words; None for none.

        Args:
            parameter: what the caller gave.
            effort: its value, as an effort.
            shown: the parameter that is noted where another effort is sent.
        """
        known = dialect.efforts
        if known == ():
            # What does not reason need not be kept from it.
            if effort != "none":
                self.refuse(parameter, "", "this model has no such setting: leave it out")
            return None
        if known is None or (isinstance(effort, str) and (effort in known or effort in dialect.effort_rename)):
            return effort
        if effort == "none":
            # One that reasons only when it is asked to rests by itself.
            return self.least(parameter, known) if dialect.reasons else None
        found = nearest(effort, known)
        if found is None:
            self.refuse(parameter, f"={effort!r}", advice(effort, known))
        else:
            self.note(f"{shown}={effort}->{found}")
        return found

    def one_limit(self, given: dict[str, Any]) -> None:
        """Bring the synonyms of the output limit under its canonical name, ``max_tokens``."""
        found = {name: given.pop(name) for name in LIMITS if name in given}
        values = list(found.values())
        if any(value != values[0] for value in values):
            raise InvalidRequestError(f"{self.who}: {' and '.join(found)} are the same limit but differ; give one")
        if values:
            given["max_tokens"] = values[0]

    def clamp(self, given: dict[str, Any], bounds: Mapping[str, tuple[float, float]]) -> None:
        """Refuse numbers that are out of bounds; with drop_params they become the nearest bound."""
        for name, (lowest, highest) in bounds.items():
            value = given.get(name)
            if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
                continue
            if lowest <= value <= highest:
                continue
            bound = lowest if value < lowest else highest
            nearest = int(bound) if isinstance(value, int) and bound.is_integer() else bound
            self.refuse(
                name,
                f"={value:g}",
                f"it takes {lowest:g} to {highest:g}, nearest {nearest:g}"
                if lowest != highest
                else f"it takes {lowest:g} only",
                f"{name}={value:g}->{nearest:g}",
            )
            given[name] = nearest

    def renamed(self, given: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        """The parameters under the server's names."""
        body = {names.get(name, name): value for name, value in given.items()}
        if len(body) != len(given):
            twice = sorted(name for name in given if names.get(name, name) != name and names[name] in given)
            raise InvalidRequestError(
                f"{self.who}: {', '.join(twice)} and what the server calls it are both given; give one"
            )
        return body
