"""Numbers of the chapter on groups of neurons, against the groups and the ablations."""

import pandas as pd

from raretok.book.facts import intervention
from raretok.findings.intervention import SETTINGS


def setting(corpus, group, factor, holds):
    return {"corpus": corpus, "group": group, "size": 3, "factor": factor, "holds": holds}


def test_the_numbers_are_those_of_the_groups(study):
    best = study.table("intervention.best_setting").assign(corpus="here")
    numbers = intervention.facts(study, best)
    assert all(type(text) is str for text in numbers.values())
    chosen = study.get("intervention.best_groups")
    together, single = set(chosen["greedy"].tolist()), set(chosen["single"].tolist())
    assert numbers["group_size"] == str(len(together))
    assert numbers["shared"] == f"{len(together & single) / len(together):.0%}"
    pruned = study.table("intervention.pruning")
    all_of_them = pruned[pruned["k"] == study.get("effects.mlp_weights")["W_out"].shape[0]].set_index("band")
    assert numbers["all_rare"] == f"{all_of_them.loc['rare', 'net']:+.2f}"
    assert numbers["settings"] == str(len(SETTINGS))


def test_the_outcome_counts_what_holds_up_elsewhere():
    best = pd.DataFrame(
        [
            setting("here", "all", 1.5, True),
            setting("here", "boost", 1.0, False),
            setting("there", "all", 1.5, False),
            setting("there", "boost", 1.0, False),
        ]
    )
    numbers = intervention._best_setting_facts(best)
    assert (numbers["groups"], numbers["tried"]) == ("2", "1")
    assert numbers["outcome"].startswith(
        "Of 2 tests of such factors on documents that they were not chosen on, 1 hold up"
    )
    nothing = intervention._best_setting_facts(best[best["factor"] == 1])
    assert nothing["outcome"] == "So there was nothing to test on other documents."
