"""Tokenizers encode as their own files say, and tokens are shown so that they can be told apart."""

import json
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from raretok import NotApplicable, RaretokError, Study
from raretok.model.load import bos_id, load_tokenizer
from raretok.model.registry import ModelEntry
from raretok.model.tokens import digest_tokenizer, encode, is_word_start, learned_order, show_tokens, type_count

MINE = ModelEntry("mine", "path", "mine")
TEXTS = ["Don't  split   this, or 12345 that.\n\nTwo  lines\tand\ttabs", "ünï – 日本語 😀 x_y"]


def bpe(pre_tokenizer, texts=TEXTS, size=300):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts * 5, trainer)
    return tokenizer


@pytest.fixture
def folder(models, tmp_path):
    """A copy of a model's folder whose tokenizer.json splits at digits, which no class of transformers does."""
    place = shutil.copytree(models["llama"], tmp_path / "mine")
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe(digits).save(str(place / "tokenizer.json"))
    return place


@pytest.mark.parametrize("config", [None, {"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "LlamaTokenizer"}])
def test_text_is_split_as_the_folders_own_file_says(folder, config):
    (folder / "tokenizer_config.json").unlink()
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert encode(load_tokenizer(str(folder)), TEXTS) == [own.encode(t).ids for t in TEXTS]


def test_a_folder_does_not_take_its_parents_tokenizer(folder, models):
    parent = folder.parent
    shutil.copy(models["llama"] / "tokenizer.json", parent / "tokenizer.json")
    other = bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), size=280)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    other.model.save(str(folder))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(settings | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    )
    assert encode(load_tokenizer(str(folder)), TEXTS) == [other.encode(t).ids for t in TEXTS]
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(RaretokError, match="has no tokenizer"):
        load_tokenizer(str(folder))


def test_the_name_of_a_special_token_in_a_text_is_text(models):
    tokenizer = load_tokenizer(str(models["llama"]))
    [ids] = encode(tokenizer, ["one<|endoftext|>two"])
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "one<|endoftext|>two"


def wordpiece():
    names = ["[UNK]", "[CLS]", "un", "##able", "able", "##s", "."]
    model = models.WordPiece({name: k for k, name in enumerate(names)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]", cls_token="[CLS]")


def test_word_starts_are_those_of_the_kind_of_tokenizer(models):
    assert is_word_start(wordpiece(), 8).tolist() == [False, False, True, False, True, False, True, False]
    tokenizer = load_tokenizer(str(models["llama"]))
    starts = is_word_start(tokenizer, len(tokenizer))
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert starts.tolist() == [name.startswith("Ġ") for name in names]


def test_parts_of_characters_are_told_apart():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), size=257)
    )
    ids = encode(tokenizer, ["日本 a\n"])[0]
    shown = show_tokens(tokenizer, ids)
    assert shown == [*(f"\\x{b:02x}" for b in "日本".encode()), "␣", "a", "⏎"]


def test_a_tokenizer_written_in_python_has_a_digest_and_encodes():
    tokenizer = ByT5Tokenizer()
    assert (
        digest_tokenizer(tokenizer) == digest_tokenizer(ByT5Tokenizer()) != digest_tokenizer(ByT5Tokenizer(extra_ids=5))
    )
    assert encode(tokenizer, ["ab"]) == [[100, 101]]
    assert np.flatnonzero(is_word_start(tokenizer, 300)).tolist() == encode(tokenizer, [" "])[0]


def tokenizer_with(bos, eos, before=False):
    inner = bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    inner.add_special_tokens(["<s>", "</s>"])
    if before:
        from tokenizers.processors import TemplateProcessing

        inner.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, eos_token=eos)


@pytest.mark.parametrize(
    ("bos", "eos", "before", "expected"),
    [
        ("<|endoftext|>", "<|endoftext|>", False, "<|endoftext|>"),
        ("<s>", "</s>", True, "<s>"),
        ("<s>", "</s>", False, None),
        (None, "</s>", False, None),
    ],
)
def test_windows_start_as_the_model_is_used(bos, eos, before, expected):
    tokenizer = tokenizer_with(bos, eos, before)
    assert bos_id(tokenizer, MINE) == (None if expected is None else tokenizer.convert_tokens_to_ids(expected))
    assert bos_id(tokenizer, MINE, "no") is None
    if bos:
        assert bos_id(tokenizer, MINE, "yes") == tokenizer.bos_token_id
    else:
        with pytest.raises(RaretokError, match="no token that starts a text: leave --bos out"):
            bos_id(tokenizer, MINE, "yes")


@pytest.mark.parametrize("bos", ["yes", "no"])
def test_the_loss_with_and_without_a_first_token_is_that_of_the_plain_model(models, corpus_file, bos):
    study = Study(models["gpt2"], corpus_file, windows=120, length=32, bos=bos)
    row = study.table("checks.first_token").iloc[0]
    tokens = study.inputs.windows.tokens[:8]
    assert row["used"] == (bos == "yes") == (tokens[:, 0] == row["first"]).all()
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(models["gpt2"])
    text = tokens[:, 1:] if bos == "yes" else tokens[:, :-1]
    for column, ids, first in (("without_it", text, 4), ("with_it", np.insert(text, 0, row["first"], 1), 5)):
        ids = torch.from_numpy(ids.astype(np.int64))
        logits = plain(ids).logits[:, first - 1 : -1].transpose(1, 2)
        expected = torch.nn.functional.cross_entropy(logits, ids[:, first:]).item()
        assert row[column] == pytest.approx(expected, abs=1e-4)


def test_types_are_ranked_as_the_tokenizer_learned_them():
    tokenizer = Tokenizer(
        models.BPE(
            {"a": 0, "b": 1, "c": 2, "ab": 4, "abc": 3, "bc": 5}, [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
        )
    )
    order = learned_order(PreTrainedTokenizerFast(tokenizer_object=tokenizer), 7)
    # neither the alphabet nor a type that no merge makes was learned; the first merge that makes a type counts
    assert np.array_equal(order, [np.nan, np.nan, np.nan, -3, -1, -2, np.nan], equal_nan=True)


def test_merges_with_a_mark_of_continuation_make_types_without_it_inside():
    made = models.BPE({"a": 0, "##b": 1, "ab": 2}, [("a", "##b")], continuing_subword_prefix="##")
    order = learned_order(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(made)), 3)
    assert np.array_equal(order, [np.nan, np.nan, -1], equal_nan=True)


def test_a_vocabulary_with_gaps_has_as_many_types_as_its_largest_id_says():
    gaps = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 9}, [])))
    assert (len(gaps), type_count(gaps)) == (2, 10)


def test_frequent_text_is_learned_first():
    words = [f"word{chr(97 + k)}{chr(97 + k)}" for k in range(20)]
    texts = [" ".join([word] * (400 // (k + 1))) for k, word in enumerate(words)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe(pre_tokenizers.ByteLevel(add_prefix_space=True), texts, 340)
    )
    order = learned_order(tokenizer, len(tokenizer))
    learned = [order[ids[0]] for ids in encode(tokenizer, words) if len(ids) == 1]
    assert len(learned) > 10
    assert learned == sorted(learned, reverse=True)


def test_the_scores_of_a_unigram_tokenizer_rank_its_types():
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -2.5), ("b", -1.5)], 0))
    order = learned_order(PreTrainedTokenizerFast(tokenizer_object=tokenizer), 3)
    assert np.array_equal(order, [np.nan, -2.5, -1.5], equal_nan=True)


@pytest.mark.parametrize("made", [models.WordPiece({"[UNK]": 0, "a": 1}), models.BPE({"a": 0}, []), None])
def test_other_tokenizers_say_nothing_about_frequency(made):
    tokenizer = ByT5Tokenizer() if made is None else PreTrainedTokenizerFast(tokenizer_object=Tokenizer(made))
    with pytest.raises(NotApplicable, match="does not say in which order"):
        learned_order(tokenizer, 2)
