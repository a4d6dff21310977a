"""
What each key has used in the last 61 seconds, and what a call lacks: the arithmetic of the limits, without waiting.

Nothing here locks; ``limits.py`` calls it with its lock held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llm_master.policy.limits_rules import CELLS, Limit, Reservation, Shortage

__all__ = ["Purse", "Window", "Windows", "commit", "release", "worst"]

_FEW_KEYS = 256
# Seconds for which an ended window of a budget is kept: calls that began in it may still end, and a clock be set back.
_KEPT = 2 * 86400.0


class Window:
    """What one key has used: a ring of one-second cells with running sums, and the calls in flight."""

    __slots__ = ("cell", "inflight", "request_sum", "requests", "stop", "token_sum", "tokens")

    def __init__(self, cell: int) -> None:
        self.cell = cell
        self.requests = [0] * CELLS
        self.tokens = [0] * CELLS
        self.request_sum = self.token_sum = self.inflight = 0
        self.stop = -math.inf

    def advance(self, cell: int) -> None:
        """Empty the cells that have left the last 61 seconds."""
        if cell - self.cell >= CELLS:
            self.requests, self.tokens = [0] * CELLS, [0] * CELLS
            self.request_sum = self.token_sum = 0
        else:
            for passed in range(self.cell + 1, cell + 1):
                i = passed % CELLS
                self.request_sum -= self.requests[i]
                self.token_sum -= self.tokens[i]
                self.requests[i] = self.tokens[i] = 0
        self.cell = max(cell, self.cell)

    def lacking(self, limit: Limit, tokens: int, now: float) -> list[Shortage]:
        """What keeps a call from going now; the window is advanced to ``now`` already."""
        found = []
        if self.stop > now:
            found.append(Shortage(self.stop - now, limit, "provider", certain=True))
        if limit.rpm is not None and self.request_sum >= limit.rpm:
            until = self._free_at(self.requests, self.request_sum + 1 - limit.rpm)
            found.append(Shortage(until - now, limit, "rpm", certain=True))
        if limit.tpm is not None and self.token_sum + tokens > limit.tpm:
            until = self._free_at(self.tokens, self.token_sum + tokens - limit.tpm)
            # A call in flight may yet give back what it does not use.
            found.append(Shortage(until - now, limit, "tpm", certain=not self.inflight))
        if limit.max_concurrency is not None and self.inflight >= limit.max_concurrency:
            found.append(Shortage(math.inf, limit, "max_concurrency", certain=False))
        return found

    def _free_at(self, counts: list[int], excess: int) -> int:
        """The second from which on at least ``excess`` of the counts has left the window."""
        for cell in range(self.cell - CELLS + 1, self.cell):
            excess -= counts[cell % CELLS]
            if excess <= 0:
                return cell + CELLS
        return self.cell + CELLS

    def inherited(self) -> Window:
        """A copy for a forked child: what was used counts, the parent's calls in flight do not."""
        copy = Window(self.cell)
        copy.requests, copy.tokens, copy.stop = list(self.requests), list(self.tokens), self.stop
        # The fork may have come between a cell and its sum.
        copy.request_sum, copy.token_sum = sum(copy.requests), sum(copy.tokens)
        return copy


class Purse:
    """What is used of a budget in one window: ``spent``, and ``held`` by calls under way."""

    __slots__ = ("ends", "held", "spent")

    def __init__(self, ends: float | None, spent: int = 0) -> None:
        self.ends, self.spent, self.held = ends, spent, 0

    def lacking(self, charge: Any) -> list[Shortage]:
        """What keeps a call from taking its charge now."""
        kind = charge.lacks(self.spent + self.held, self.held)
        return [] if kind is None else [Shortage(math.inf, charge, kind, kind == "budget", self.spent)]


class Windows(dict[str, Window]):
    """The windows by key; those that hold nothing any more are dropped when there are many."""

    sweep_at = _FEW_KEYS

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.purses: dict[str, Purse] = {}

    def purse(self, charge: Any) -> Purse:
        """The window of a budget that a charge is on, made when there is none."""
        found = self.purses.get(charge.key)
        if found is None:
            begins = charge.span.starts
            gone = [k for k, p in self.purses.items() if p.ends is not None and p.ends + _KEPT < begins and not p.held]
            for key in gone:
                del self.purses[key]
            found = self.purses[charge.key] = Purse(charge.span.ends)
        return found

    def of(self, key: str, now: float) -> Window:
        """The window of a key, made when there is none, advanced to ``now``."""
        cell = int(now)
        window = self.get(key)
        if window is None:
            if len(self) >= self.sweep_at:
                self._sweep(cell, now)
            window = self[key] = Window(cell)
        elif window.cell < cell:
            window.advance(cell)
        return window

    def _sweep(self, cell: int, now: float) -> None:
        # Only when their number has doubled, so that each new key pays for a few others at most.
        old = cell - CELLS
        for key in [k for k, w in self.items() if not w.inflight and w.cell < old and w.stop <= now]:
            del self[key]
        self.sweep_at = max(_FEW_KEYS, 2 * len(self))

    def lacking(
        self, limits: Sequence[Any], tokens: int, now: float, claimed: Mapping[str, tuple[float, bool]]
    ) -> list[Shortage]:
        """
        Everything that keeps a call from going now; empty when it may.

        Args:
            limits: all that apply to it, charges on budgets among them.
            tokens: its estimate.
            now: seconds of the clock that counts.
            claimed: keys that others wait for: when they may go at the earliest, and whether nothing can hasten it.
        """
        found = []
        for limit in limits:
            if isinstance(limit, Limit):
                found += self.of(limit.key, now).lacking(limit, tokens, now)
            else:
                found += self.purse(limit).lacking(limit)
            claim = claimed.get(limit.key)
            if claim is not None:
                found.append(Shortage(max(0.0, claim[0] - now), limit, "line", claim[1]))
        return found

    def take(self, limits: Sequence[Any], cell: int, tokens: int) -> Reservation:
        """Count a call under all its limits and budgets."""
        reservation = commit(tuple(self[each.key] for each in limits if isinstance(each, Limit)), cell, tokens)
        reservation.charges = tuple(each for each in limits if not isinstance(each, Limit))
        reservation.purses = tuple(self.purse(charge) for charge in reservation.charges)
        for purse, charge in zip(reservation.purses, reservation.charges, strict=True):
            purse.held += charge.amount
        return reservation

    def inherited(self) -> Windows:
        """The windows of a forked child; what the parent's calls hold of budgets is spent there."""
        copy = Windows((key, window.inherited()) for key, window in list(self.items()))
        copy.sweep_at = self.sweep_at
        copy.purses = {key: Purse(purse.ends, purse.spent + purse.held) for key, purse in list(self.purses.items())}
        return copy


def worst(lacking: list[Shortage]) -> Shortage:
    """A budget that is spent, else what takes longest; what has no known end only when there is nothing else."""
    return max(lacking, key=lambda each: (each.kind == "budget", each.seconds < math.inf, each.seconds))


def commit(found: tuple[Window, ...], cell: int, tokens: int) -> Reservation:
    """Count a call in every window found for it; they are advanced to ``cell``."""
    if len(found) > 1:
        found = tuple(dict.fromkeys(found))  # a key named by two limits is counted once
    i = cell % CELLS
    for window in found:
        window.requests[i] += 1
        window.request_sum += 1
        window.tokens[i] += tokens
        window.token_sum += tokens
        window.inflight += 1
    return Reservation(found, cell, tokens)


def release(
    reservation: Reservation, tokens: int | None, cost: int | None = None, used: int | None = None, *, undo: bool
) -> None:
    """
    End a reservation: undo it whole, or change its tokens and picodollars to those really used.

    None keeps what is held; ``used`` are the tokens that budgets count where limits keep theirs.
    """
    if not reservation.open:
        return
    reservation.open = False
    cell = reservation.cell
    i = cell % CELLS
    real = 0 if undo or (tokens is not None and tokens < 0) else reservation.tokens if tokens is None else tokens
    change = real - reservation.tokens
    reservation.tokens = real
    for window in reservation.handle:
        window.inflight -= 1
        if window.cell - cell < CELLS:
            window.tokens[i] += change
            window.token_sum += change
            if undo:
                window.requests[i] -= 1
                window.request_sum -= 1
    for purse, charge in zip(reservation.purses, reservation.charges, strict=True):
        purse.held -= charge.amount
        purse.spent += 0 if undo else charge.final(tokens if used is None else used, cost)
