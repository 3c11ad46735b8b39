"""Facts of the chapter of neuron cards: the models whose neurons it shows, and the numbers of cards."""

from raretok.study import Study


def facts(study: Study, other: Study | None, most: int) -> dict[str, str]:
    """Return the numbers that the chapter of neuron cards prints.

    Args:
        study: the study whose cards come first.
        other: the study whose cards come second, with half as many; None where there is none.
        most: the largest number of cards of the first study.
    """
    return {
        "most": str(most),
        "model": study.settings.model,
        "shown": _count(study, most),
        "compare": other.settings.model if other else "–",
        "compare_shown": _count(other, most // 2) if other else "no",
    }


def _count(study: Study, most: int) -> str:
    """Return the number of a study's cards."""
    return str(len(study.get("neuron_cards.cards", most=most)["neurons"]))
