"""What Tab offers after `%wb`: words, marks and other moments, guests, plugins.

Uses IPython's matcher API (version 2). A name is offered only if it is the same when it is written down: one with
control or other invisible characters, or longer than a line, is left out. Refuses to wait for what takes long: plugins
are asked for in the background, and offered once they are known.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from workbench.errors import WorkbenchError
from workbench.notebook.text import inert
from workbench.notebook.verbs import VERBS, last_word

__all__ = ["Completion"]

_LINE = re.compile(r"(?:^|=)\s*%wb\s+(?P<words>.*)$")
_MOST = 200
_PATIENCE = 0.8
"""Seconds that Tab waits for plugins: a page gives up soon after."""


class Completion:
    """Tab after `%wb`.

    Parameters
    ----------
    case : callable
        Returns the case that is meant, or raises WorkbenchError.
    """

    def __init__(self, case: Callable[[], Any]) -> None:
        self._case = case
        self._plugins: list[str] = []
        self._asking: threading.Thread | None = None

    def install(self, ipython: Any) -> None:
        """Add it to a shell; once, however often it is asked for."""
        matchers = ipython.Completer.custom_matchers
        matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != "workbench.wb"]
        matchers.append(context_matcher(identifier="workbench.wb")(self._matcher()))

    def _matcher(self) -> Callable[[CompletionContext], SimpleMatcherResult]:
        def match(context: CompletionContext) -> SimpleMatcherResult:
            found = _LINE.search(context.text_until_cursor)
            if found is None:
                return {"completions": [], "suppress": False}
            before, word = last_word(found["words"])
            kind = _kind(before)
            offered = [SimpleCompletion(text=each, type=kind) for each in self.offers(kind, word)]
            return {"completions": offered, "matched_fragment": word, "suppress": kind != "path"}

        return match

    def offers(self, kind: str, word: str) -> list[str]:
        """Return what may stand for the word that was begun, quoted where it must be."""
        begun = word.lstrip("'\"")
        try:
            known = [each for each in self._known(kind, begun) if each.startswith(begun)]
        except WorkbenchError:
            return []
        return [shlex.quote(each) for each in dict.fromkeys(known) if inert(each) == each][:_MOST]

    def _known(self, kind: str, begun: str) -> Iterable[str]:
        match kind:
            case "word":
                return VERBS
            case "guest":
                return [each.name for each in self._case().guests()]
            case "moment":
                return self._moments(begun)
            case "plugin":
                return self._known_plugins()
            case "experiment":
                return [str(each)[:12] for each in self._case().experiments()["id"]]
        return []

    def _moments(self, begun: str) -> Iterator[str]:
        yield "latest"
        case = self._case()
        for guest in case.guests():
            for mark in case.marks(guest.id):
                yield mark.name
                if begun.startswith(("before:", "after:")):
                    yield from (f"before:{mark.name}", f"after:{mark.name}")
        yield from ("before:", "after:", "1 capture ago", "2 captures ago", "3 captures ago")
        if re.fullmatch("[0-9a-f]{2,64}", begun):
            yield from (ref.id[:12] for guest in case.guests() for ref in case.store.captures(guest.id))

    def _known_plugins(self) -> list[str]:
        if self._asking is None:
            self._asking = threading.Thread(target=self._ask, args=(self._case(),), name="plugins", daemon=True)
            self._asking.start()
        self._asking.join(_PATIENCE)
        return self._plugins

    def _ask(self, case: Any) -> None:
        try:
            self._plugins = [str(each) for each in case.plugins("")["plugin"]]
        except WorkbenchError:
            self._asking = None  # the next Tab asks again


def _kind(before: list[str]) -> str:
    """Return what the next word is, by the words before it."""
    if not before:
        return "word"
    kinds = VERBS[before[0]].kinds if before[0] in VERBS else ()
    return kinds[len(before) - 1] if len(before) <= len(kinds) else ""
