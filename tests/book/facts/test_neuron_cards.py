"""The numbers of the chapter of cards: as many cards as it says."""

import re

from raretok import Study
from raretok.book.facts import neuron_cards
from raretok.charts.neuron_cards import cards, link


def test_as_many_cards_as_the_text_says(models, corpus_file):
    study = Study(model=models["gpt_neox"], corpus=str(corpus_file), windows=120, length=64, sample=300, device="cpu")
    facts = neuron_cards.facts(study, None, 5)
    assert all(isinstance(text, str) for text in facts.values())
    found = study.table("identification.rare_token_neurons")
    eligible = int((found["controlled"] | found["published"]).sum())
    assert facts["most"] == "5"
    assert facts["shown"] == str(min(5, eligible))
    assert (facts["compare"], facts["compare_shown"]) == ("–", "no")
    page = cards(study.get("neuron_cards.cards", most=5)).data
    shown = re.findall(r'<div id="neuron-(\d+)">', page)
    assert len(shown) == int(facts["shown"])
    both = neuron_cards.facts(study, study, 5)
    assert both["compare"] == study.settings.model
    assert both["compare_shown"] == str(min(2, eligible))


def test_a_link_leads_to_the_card():
    assert link(12) == '<a href="neuron_cards.html#neuron-12">12</a>'
