"""Facts of the chapter on the text and the model: numbers of rare types and tokens, and the content of the windows."""

from typing import Any

from raretok.data.frequency import COMMON_MASS, RARE_MASS
from raretok.model.trace import SKIP
from raretok.study import Study


def facts(study: Study) -> dict[str, str]:
    """Return the numbers that the chapter on the text and the model prints."""
    return _text(study) | _types(study) | _windows(study)


def _text(study: Study) -> dict[str, str]:
    """Describe the corpus in words and numbers."""
    corpus, frequency = study.inputs.text.corpus, study.inputs.frequency
    return {
        "corpus": study.settings.corpus,
        "what": corpus.description,
        "ranked": frequency.source,
        "corpus_documents": f"{len(corpus.documents):,}",
        "vocabulary": f"{len(frequency.counts):,}",
    }


def _types(study: Study) -> dict[str, str]:
    """Count types and tokens, and give the shares of both that are rare."""
    types = study.table("corpus.types")
    rare, common = types[types["band"] == "rare"], types[types["band"] == "common"]
    total = types["count"].sum()
    return {
        "tokens": f"{total:,}",
        "types": f"{len(types):,}",
        "rare_types": f"{len(rare):,}",
        "rare_share": f"{len(rare) / len(types):.0%}",
        "rare_mass": f"{rare['count'].sum() / total:.1%}",
        "common_types": f"{len(common):,}",
        "half_mass": f"{types.loc[types['rank'] > len(types) / 2, 'count'].sum() / total:.1%}",
        "rare_limit": f"{RARE_MASS:.0%}",
        "common_limit": f"{COMMON_MASS:.0%}",
    }


def _windows(study: Study) -> dict[str, str]:
    """Count the windows, and the positions in the bands that are compared."""
    bands: Any = study.table("effects.bands").set_index("band")
    apart = "No window runs across documents, and each document gives its first window before any gives its second."
    packed = "Short documents are packed into windows, with a mark between them; no document is in two windows."
    return {
        "cut": packed if study.settings.pack else apart,
        "windows": f"{study.settings.windows:,}",
        "length": f"{study.settings.length:,}",
        "skipped": str(SKIP),
        "positions": f"{bands.loc['all', 'targets']:,.0f}",
        "rare_targets": f"{bands.loc['rare', 'ablated']:,.0f}",
        "with_controls": f"{bands.loc['rare with controls', 'ablated']:,.0f}",
        "matched": f"{bands.loc['matched', 'ablated']:,.0f}",
        "matched_effective": f"{bands.loc['matched', 'effective']:,.0f}",
        "rare_loss": f"{bands.loc['rare', 'loss']:.1f}",
        "common_loss": f"{bands.loc['common', 'loss']:.1f}",
    }
