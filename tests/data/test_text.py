import gzip
import json
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pyarrow
import pytest

from raretok import RaretokError
from raretok.data.readers import TextLayout
from raretok.data.text import (
    Corpus,
    Tokenised,
    digest_windows,
    in_part,
    load_corpus,
    make_windows,
    pack_windows,
    tokenise,
)


def as_tokens(lengths: list[int]) -> Tokenised:
    """Documents of the given lengths whose token ids say which document and place they are: 1000·k + position."""
    ids = np.concatenate([1000 * k + np.arange(n) for k, n in enumerate(lengths)]).astype(np.int32)
    return Tokenised(ids, np.cumsum([0, *lengths]).astype(np.int64))


@pytest.mark.parametrize("bos", [None, 7])
def test_windows_never_cross_documents_and_halves_go_by_document(bos):
    lengths = [5, 40, 17, 100, 33, 16, 15]
    windows = make_windows(as_tokens(lengths), "t", 9, 16, bos, 0)
    body = windows.tokens[:, bos is not None :]
    if bos is not None:
        assert (windows.tokens[:, 0] == bos).all()
    assert (body // 1000 == windows.document[:, None]).all()
    assert (np.diff(body, axis=1) == 1).all()
    assert len({tuple(row) for row in body}) == 9
    for k in set(windows.document):
        assert len(set(windows.half[windows.document == k])) == 1


def test_every_document_gives_its_first_window_before_any_its_second():
    windows = make_windows(as_tokens([64, 64, 64, 64]), "t", 4, 16, None, 3)
    assert sorted(windows.document) == [0, 1, 2, 3]
    assert (windows.tokens[:, 0] % 1000 == 0).all()


def test_seed_changes_the_documents_and_nothing_else_does():
    text = as_tokens([20] * 50)
    one, same, other = (make_windows(text, "t", 10, 16, None, s) for s in (0, 0, 1))
    assert (one.tokens == same.tokens).all()
    assert set(one.document) != set(other.document)


@pytest.mark.parametrize("first", [True, False])
def test_packed_windows_are_full_and_hold_documents_of_one_half_and_no_document_twice(first):
    lengths = [5, 0, 40, 3, 17, 1, 9, 12, 8, 2, 30, 7, 6, 11]
    windows = pack_windows(as_tokens(lengths), "t", 4, 16, -7, first, 0)
    assert windows.tokens.shape == windows.documents.shape == (4, 16)
    assert windows.half.tolist() == [0, 1, 0, 1]
    mark = windows.tokens == -7
    assert mark[:, 0].tolist() == [first] * 4
    assert (windows.tokens // 1000 == windows.documents)[~mark].all()
    where = [set(row) for row in windows.documents]
    assert sum(map(len, where)) == len(set().union(*where)) == windows.count
    for tokens, documents in zip(windows.tokens, windows.documents, strict=True):
        for document in set(documents):
            inside = tokens[(documents == document) & (tokens != -7)]
            # from the document's start, whole unless the window ends
            assert (inside == 1000 * document + np.arange(len(inside))).all()
            assert len(inside) == lengths[document] or document == documents[-1]
            # a mark where the document begins
            begins = int(np.flatnonzero(documents == document)[0])
            assert (tokens[begins] == -7) == (first or begins > 0)


def test_parts_hold_every_document_once_whatever_else_the_corpus_holds():
    documents = [f"document {k}" for k in range(1000)]
    parts = np.stack([in_part(documents, k, 5) for k in range(1, 6)])
    assert (parts.sum(0) == 1).all()
    assert all(150 < count < 250 for count in parts.sum(1))
    assert (in_part(documents[::-1], 2, 5)[::-1] == parts[1]).all()
    text = as_tokens([40] * 1000)
    windows = make_windows(text, "t", 50, 16, None, 0, parts[1])
    assert parts[1][windows.document].all()
    packed = pack_windows(text, "t", 50, 64, -7, True, 0, parts[1])
    assert parts[1][np.unique(packed.documents)].all()


def test_an_odd_number_of_windows_takes_one_more_of_the_first_half():
    assert len(pack_windows(as_tokens([20, 20, 20]), "t", 3, 16, -7, True, 0).tokens) == 3


def test_packing_tells_how_many_windows_there_are_and_is_another_text():
    with pytest.raises(RaretokError, match="fills 2 windows of 16 tokens, fewer than windows=3: ask for at most 2"):
        pack_windows(as_tokens([20, 20, 5, 5]), "t", 3, 16, -7, True, 0)
    packed = pack_windows(as_tokens([20, 20]), "t", 2, 16, -7, True, 0)
    apart = replace(packed, documents=None)
    assert digest_windows(packed) != digest_windows(apart)
    at = np.array([0, 1]), np.array([3, 3])
    assert packed.of_each(*at).tolist() == packed.documents[:, 3].tolist()
    assert apart.of_each(*at).tolist() == [0, 1]


def test_too_many_windows_says_how_many_there_are():
    with pytest.raises(RaretokError, match="has 3 windows of 16 tokens, fewer than windows=4"):
        make_windows(as_tokens([35, 20, 9]), "t", 4, 16, None, 0)


def test_formats_agree(tmp_path):
    texts = ["one, two\nthree", 'with "quotes"', "más"]
    frame = pd.DataFrame({"body": texts})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": t}) for t in texts), encoding="utf-8")
    read = [
        load_corpus(str(tmp_path / f"a.{kind}"), TextLayout("body")).documents for kind in ("csv", "parquet", "jsonl")
    ]
    assert read == [tuple(texts)] * 3


def test_plain_text_becomes_documents_of_whole_paragraphs(tmp_path):
    paragraphs = [f"{k} " + "x" * 700 for k in range(9)]
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    documents = load_corpus(str(tmp_path / "a.txt")).documents
    assert len(documents) == 3
    assert "\n\n".join(documents).split("\n\n") == paragraphs


@pytest.mark.parametrize("name", ["a.jsonl.gz", "A.JSONL", "a.jsonl.zst", "a.json", "a.tsv", "a.ndjson", "folder"])
def test_packed_files_other_endings_and_folders_hold_the_same_documents(tmp_path, name):
    texts = ["one, two", "más", "a\tb"]
    records = [{"text": t} for t in texts]
    lines = "\n".join(map(json.dumps, records)).encode()
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        for k, t in enumerate(texts):
            (path / f"{k}.txt").write_text(t, encoding="utf-8")
    elif name.endswith(".zst"):
        with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(lines)
    elif name.endswith(".tsv"):
        pd.DataFrame(records).to_csv(path, index=False, sep="\t")
    else:
        path.write_bytes({"a.jsonl.gz": gzip.compress(lines), "a.json": json.dumps(records).encode()}.get(name, lines))
    assert load_corpus(str(path)).documents == tuple(texts)


def test_a_dataset_that_was_saved_to_a_folder_is_read(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b", None, "c", "d", "e"]}).save_to_disk(tmp_path / "saved")
    assert load_corpus(str(tmp_path / "saved")).documents == ("a", "b", "c", "d", "e")


def test_one_split_of_a_saved_dataset_is_named(tmp_path):
    split = datasets.Dataset.from_dict({"text": ["a", "b"]})
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "saved")
    with pytest.raises(RaretokError, match=r"holds several splits: .* \(test, train\)"):
        load_corpus(str(tmp_path / "saved"))
    assert load_corpus(str(tmp_path / "saved" / "test")).documents == ("a", "b")


def test_hidden_folders_are_not_read(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.txt").write_text("no")
    (tmp_path / "b.txt").write_text("yes")
    assert load_corpus(str(tmp_path)).documents == ("yes",)


def test_lines_of_windows_end_like_any_others(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\r\nthree\x0cthree\r\n")
    assert load_corpus(str(tmp_path / "a.txt")).documents == ("one\ntwo\n\nthree\x0cthree\n",)
    lines = load_corpus(str(tmp_path / "a.txt"), TextLayout(documents="lines")).documents
    assert lines == ("one", "two", "three\x0cthree")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_byte_order_marks_are_no_text(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("text\nmás\n".encode(encoding))
    assert load_corpus(str(tmp_path / "a.csv")).documents == ("más",)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("lines", ["a", "b", "c", "d"]),
        ("blank-lines", ["a\nb", "c", "d\n"]),
        ("file", ["a\nb\n\nc\n \nd\n"]),
        ("c", ["a\nb\n\n", "\n \nd\n"]),
    ],
)
def test_documents_of_a_text_file_are_what_the_layout_says(tmp_path, kind, expected):
    (tmp_path / "a.txt").write_text("a\nb\n\nc\n \nd\n", encoding="utf-8")
    assert load_corpus(str(tmp_path / "a.txt"), TextLayout(documents=kind)).documents == tuple(expected)


def test_stories_with_a_mark_between_them_are_split_there(tmp_path):
    (tmp_path / "a.txt").write_text("Once.\n\nUpon.\n<|endoftext|>\nA time.", encoding="utf-8")
    assert [d.strip() for d in load_corpus(str(tmp_path / "a.txt")).documents] == ["Once.\n\nUpon.", "A time."]


def test_a_few_records_may_lack_a_text_and_are_told(tmp_path, capsys):
    records = [{"text": "a"}, {"text": None}, {"other": 1}, *({"text": f"b{k}"} for k in range(9))]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert len(load_corpus(str(tmp_path / "a.jsonl")).documents) == 10
    assert "a.jsonl: 2 of 12 records have no text and are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "no file"),
        ("empty.txt", b"", "holds no text"),
        ("blank.csv", b"text\n \n", "holds no text"),
        ("latin.txt", "é".encode("latin-1"), "is not UTF-8"),
        ("latin.csv", "text\né".encode("latin-1"), "is not UTF-8"),
        ("column.csv", b"body\nhello\n", "no column 'text'"),
        ("broken.jsonl", b'{"text": ', "line 1 is not JSON"),
        ("number.jsonl", b'{"text": 3}', "no text in 'text' in 1 of 1 records, the first of them record 1"),
        ("open.csv", b'text\nfirst\n"second\nthird\n', "line 3 is not a row of CSV"),
        ("open.csv", b'text\nfirst\n"second\nthird"s\nfourth\n', "line 3 is not a row of CSV"),
        ("comma.csv", b"text,label\nwell, well,1\n", "line 2 has 3 fields for 2 columns"),
        ("backslash.csv", b'text\n"she said \\"no\\" to him"\n', "line 2 is not a row of CSV"),
        ("twice.csv", b"text,text\na,b\n", "has 2 columns 'text': rename all but one"),
        ("short.csv", b"label,text\n1\n", "line 2 has 1 fields for 2 columns"),
        ("object.json", b'{"text": "a"}', "is no list"),
        ("broken.json", b"[", "is not JSON"),
        ("ids.jsonl", b'{"text": [1, 2]}', "holds token ids in 'text'"),
        ("many.jsonl", b'{"text": "a"}\n{"text": null}\n', "no text in 'text' in 1 of 2 records.*record 2"),
        ("cut.txt.gz", gzip.compress(b"hello" * 1000, mtime=0)[:30], "cannot be unpacked"),
        ("unmarked.txt", "hello hello".encode("utf-16-le"), "UTF-16 without a mark"),
        ("a.pdf", b"%PDF", "an ending that says nothing about its format"),
        ("nowhere/a/b", None, "no file .*nowhere/a/b"),
        ("broken.parquet", b"PAR1nonsense", "not a readable Parquet file"),
    ],
)
def test_bad_files_are_named_with_a_remedy(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RaretokError, match=message):
        load_corpus(str(tmp_path / name))


def test_unknown_corpus_lists_the_known_ones():
    with pytest.raises(
        RaretokError, match="known are movie-reviews, movie-reviews-train, movie-reviews-heldout, bbc-news"
    ):
        load_corpus("reviews")


def test_hub_dataset_that_is_not_here_says_how_to_fetch_it(monkeypatch):
    with pytest.raises(RaretokError, match="raretok fetch --corpus 'someone/something'"):
        load_corpus("someone/something")


@pytest.mark.parametrize(("name", "least"), [("movie-reviews", 33_000), ("bbc-news", 2_000)])
def test_embedded_corpora_are_whole(name, least):
    corpus = load_corpus(name)
    assert len(corpus.documents) > least
    assert len(set(corpus.documents)) == len(corpus.documents)
    assert not any("<br />" in d for d in corpus.documents)


def test_tokenise_keeps_documents_apart():
    corpus = Corpus("t", ("ab", "c", "def"), "", "")
    text = tokenise(corpus, lambda batch: [[ord(c) for c in t] for t in batch])
    assert [text.ids[a:b].tolist() for a, b in zip(text.offsets, text.offsets[1:], strict=False)] == [
        [97, 98],
        [99],
        [100, 101, 102],
    ]
