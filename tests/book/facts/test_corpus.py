"""The numbers of the chapter on the text, counted again from the tokens."""

import numpy as np

from raretok import Study
from raretok.book.facts import corpus


def test_the_numbers_are_those_of_the_text(models, corpus_file, documents):
    study = Study(
        model=models["gpt_neox"],
        corpus=str(corpus_file),
        windows=120,
        length=64,
        sample=300,
        device="cpu",
        frequency="text",
    )
    facts = corpus.facts(study)
    assert all(isinstance(text, str) for text in facts.values())
    ids = study.inputs.text.tokens.ids
    counts = np.sort(np.unique(ids, return_counts=True)[1])
    assert facts["corpus_documents"] == str(len(set(documents)))
    assert facts["tokens"] == f"{len(ids):,}"
    assert facts["types"] == f"{len(counts):,}"
    rare = counts[: int(facts["rare_types"].replace(",", ""))]
    assert facts["rare_mass"] == f"{100 * rare.sum() / len(ids):.1f}%"
    assert rare.sum() <= float(facts["rare_limit"].rstrip("%")) / 100 * len(ids)
    assert facts["half_mass"] == f"{100 * counts[: (len(counts) + 1) // 2].sum() / len(ids):.1f}%"
    windows = study.inputs.windows.tokens
    assert (facts["windows"], facts["length"]) == tuple(map(str, windows.shape))
