"""The study whose facts are checked: a small random model on the tests' corpus, measured once."""

from pathlib import Path

import pytest

from raretok import Study


@pytest.fixture(scope="session")
def study(models: dict[str, Path], corpus_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of the GPT-NeoX model; its tables are kept for all tests of facts."""
    settings = {"windows": 120, "length": 64, "sample": 300, "frequency": "text", "device": "cpu"}
    store = tmp_path_factory.mktemp("store")
    return Study(model=models["gpt_neox"], corpus=corpus_file, store=store, **settings)
