"""What a page asked its studies for, from which it is known whether the page would show the same now.

A page is executed with ``$RARETOK_ASKED`` naming a file, in which its studies note what they are asked for and the
digest of what they return. Such notes are checked by asking again: the digests are equal as long as neither the code
that computes the results nor anything that it is computed from has changed in effect.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from raretok.claims import all_claims
from raretok.graph import Node, Of, at_every_step, before_training, if_applicable, node_of
from raretok.study import Study

logger = logging.getLogger(__name__)
ASK = {"steps": at_every_step, "start": before_training, "optional": if_applicable}


def changed(by_page: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the pages for which studies would now return something else than they noted.

    Args:
        by_page: for each page the notes, lines of JSON.

    What is not in the store any more, or no longer up to date, is computed.
    """
    study = cache(lambda settings: Study(**json.loads(settings)))
    holds = cache(lambda note: _holds(note, study))
    return [page for page, notes in by_page.items() if not all(map(holds, notes))]


def _holds(note: str, study: Callable[[str], Study]) -> bool:
    noted = json.loads(note)
    try:
        return study(json.dumps(noted["settings"])).noted(_node(noted, study)) == note
    except Exception as error:  # The page itself then shows what is wrong, or does not ask for it any more.
        logger.info("%s cannot be asked for again (%r)", noted["name"], error)
        return False


def _node(noted: Mapping[str, Any], study: Callable[[str], Study]) -> Node:
    """Return the computation that was asked for."""
    claims = {claim.table.name: claim.table for claim in all_claims()}
    given = {name: _value(value, study) for name, value in noted["given"].items()}
    node = (claims.get(noted["name"]) or node_of(noted["name"])).of(**given)
    return ASK[noted["kind"]](node) if noted["kind"] in ASK else node


def _value(value: Any, study: Callable[[str], Study]) -> Any:
    """Return the value of a parameter, which may be the result of another study."""
    if isinstance(value, dict) and {"settings", "kind", "name", "given"} <= set(value):
        return Of(study(json.dumps(value["settings"])), _node(value, study))
    return value


def main() -> None:
    """Read notes by page as JSON, and print the names of the changed pages as JSON."""
    print(json.dumps(changed(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
