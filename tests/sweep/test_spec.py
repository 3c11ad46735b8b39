"""Sweeps: what a file says, as jobs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raretok import RaretokError
from raretok.model.registry import MODELS, ModelEntry
from raretok.repository import ROOT
from raretok.sweep.spec import Entry, Sweep, load_sweep, parameter_count

GOOD = """studies:
  - model: reviews-neox
    steps: [0, 512]
    corpus: movie-reviews-heldout
  - model: smollm2-135m
chapters: [corpus]
"""


def written(folder, text):
    path = folder / "sweep.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_jobs(tmp_path):
    jobs = load_sweep(written(tmp_path, GOOD)).jobs()
    first, second, third = jobs
    assert first == "reviews-neox_step0_movie-reviews-heldout"
    assert jobs[second].settings.step == 512
    assert (jobs[first].chapters, jobs[second].chapters, jobs[third].chapters) == ((), ("corpus",), ("corpus",))


def test_what_is_listed_twice_is_one_job_and_what_differs_is_two(tmp_path):
    text = GOOD.replace("chapters: [corpus]\n", "") + "".join(
        f"  - {{model: smollm2-135m, windows: {n}}}\n" for n in (256, 64, 128)
    )
    assert len(load_sweep(written(tmp_path, text)).jobs()) == 5


def test_paths_with_the_same_end_are_different_jobs(tmp_path, models):
    first, second = models["gpt2"], models["gpt_neox"]
    text = "studies:\n" + "".join(f"  - {{model: {p}, corpus: {d}/a.txt}}\n" for p in (first, second) for d in "xy")
    names = list(load_sweep(written(tmp_path, text)).jobs())
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


def test_the_default_sweep_holds_every_model_that_is_in_the_book():
    plan = load_sweep(ROOT / "sweep.yml")
    listed = {entry.model for entry in plan.studies}
    assert {m.name for m in MODELS.values() if m.kind in ("embedded", "shipped") and not m.parts} <= listed
    steps = {job.settings.step for job in plan.jobs().values() if job.settings.model == "reviews-neox"}
    assert set(MODELS["reviews-neox"].steps) <= steps


def test_the_examples_of_the_default_sweep_are_right(tmp_path):
    text = (ROOT / "sweep.yml").read_text(encoding="utf-8")
    examples = re.sub(r"^  # (- \{model: (?!runs/))", r"  \1", text, flags=re.M)
    jobs = load_sweep(written(tmp_path, examples)).jobs()
    assert sum(job.settings.model == "pythia-70m" for job in jobs.values()) == 154
    assert jobs["gpt2_movie-reviews"].fetched


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("studies: [", 1, "not YAML"),
        ("studies:\n  - model: a\n   b: c\n", 3, "not YAML"),
        ("studies: 2024-99-99\n", 1, "not YAML"),
        ("studies: []\n", 1, "at least 1"),
        ("models: []\n", 1, "known are studies"),
        ("studies:\n  - model: smollm2-135m\n    window: 3\n", 3, "known are model"),
        ("studies:\n  - model: smollm2-135m\n  - model: smollm2-135m\n    windows: many\n", 4, "integer"),
        ("studies:\n  - model: reviews-neox\n\n    steps: first\n", 4, "all, last, or a list"),
        ("studies:\n  - model: reviews-neox\n    steps: [yes]\n", 3, "all, last, or a list"),
        ("studies:\n  - model: smollm2-135m\n\n  - model: nonsense\n", 4, "unknown model"),
        ("studies:\n  - model: reviews-neox\n    steps: [3]\n", 2, "no step 3"),
        ("studies:\n  - model: smollm2-135m\n    steps: all\n", 2, "no training checkpoints"),
        ("studies:\n  - model: smollm2-135m\nchapters:\n  - corpus\n  - nothing\n", 5, "no chapter nothing"),
        ("- 3\n", 1, "valid"),
        ("", 1, "valid"),
    ],
)
def test_a_wrong_file_says_where_and_what(tmp_path, text, line, says):
    with pytest.raises(RaretokError) as error:
        load_sweep(written(tmp_path, text))
    assert re.match(rf".*sweep\.yml:{line}: ", str(error.value)), str(error.value)
    assert says in str(error.value)


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    with pytest.raises(RaretokError) as error:
        load_sweep(written(tmp_path, "studies:\n  - model: 3\n  - model: a\n    seed: -1\nhead: 1\n"))
    assert [int(x) for x in re.findall(r"sweep\.yml:(\d+):", str(error.value))] == [2, 4, 5]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from([*Sweep.model_fields, "model", "steps", "jobs"]) | st.text(), x)
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_any_file_is_a_sweep_or_a_message(tmp_path_factory, content):
    import yaml

    path = written(tmp_path_factory.mktemp("sweeps"), yaml.safe_dump(content))
    with pytest.raises(RaretokError, match=r"sweep\.yml:\d+: "):
        load_sweep(path)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_sweep_or_a_message(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("sweeps") / "sweep.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RaretokError, match="sweep"):
        load_sweep(path)


def test_larger_models_ask_for_more_and_so_do_later_attempts(tmp_path):
    text = "studies:\n" + "".join(f"  - {{model: pythia-{size}}}\n" for size in ("70m", "1b", "6.9b"))
    small, middle, large = load_sweep(written(tmp_path, text)).jobs().values()
    for name in ("mem_mb", "runtime"):
        assert small.resources()[name] < middle.resources()[name] < large.resources()[name]
        assert middle.resources(2)[name] == 2 * middle.resources()[name]
    assert large.resources()["mem_mb"] > 4 * 6.9e9 / 2**20
    assert large.resources()["gpu"] == 0
    [asked] = (
        load_sweep(written(tmp_path, "studies: [{model: gpt2, device: cuda, memory_mb: 700, minutes: 3}]"))
        .jobs()
        .values()
    )
    assert asked.resources() == {"mem_mb": 700, "runtime": 3, "gpu": 1}


def test_sizes_of_models_that_no_list_has_come_from_their_files(models):
    from raretok.model.registry import find_model

    assert parameter_count(MODELS["pythia-6.9b"]) == 6.9e9
    assert parameter_count(find_model("somebody/some-model")) == 1e9
    entry = find_model(str(models["gpt2"]))
    assert parameter_count(entry) == pytest.approx((models["gpt2"] / "model.safetensors").stat().st_size / 2)


def test_paths_are_those_beside_the_sweep_wherever_its_jobs_run(models, corpus_file, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(models["gpt2"])
    (tmp_path / "text.csv").write_bytes(corpus_file.read_bytes())
    (tmp_path / "sweep.yml").write_text("studies:\n  - {model: runs/mine, corpus: text.csv}\n  - model: smollm2-135m\n")
    monkeypatch.chdir("/")
    first, second = load_sweep(tmp_path / "sweep.yml").studies
    assert (first.model, first.corpus) == (str(tmp_path / "runs" / "mine"), str(tmp_path / "text.csv"))
    assert (second.model, second.corpus) == ("smollm2-135m", "movie-reviews")


def test_a_path_that_leads_from_where_one_stands_but_not_from_the_sweep_is_refused(
    models, corpus_file, tmp_path, monkeypatch
):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "mine").symlink_to(models["gpt2"])
    (here / "text.csv").write_bytes(corpus_file.read_bytes())
    (there / "sweep.yml").write_text("studies:\n  - model: mine\n    corpus: text.csv\n")
    monkeypatch.chdir(here)
    with pytest.raises(RaretokError) as error:
        load_sweep(there / "sweep.yml")
    told = str(error.value)
    assert "sweep.yml:2: mine lies elsewhere" in told
    assert "sweep.yml:3: text.csv lies elsewhere" in told


def test_the_size_of_a_model_is_that_of_all_its_files_at_one_step(tmp_path):
    for step in ("step0", "step1"):
        (tmp_path / step).mkdir()
        for shard in (1, 2, 3):
            (tmp_path / step / f"model-{shard}.safetensors").write_bytes(bytes(1000))
    (tmp_path / "state.safetensors").write_bytes(bytes(50_000))
    assert parameter_count(ModelEntry("mine", "run", str(tmp_path))) == 1500


def test_a_study_of_a_sweep_takes_every_setting():
    given = {"every_head": True, "dtype": "bfloat16", "tolerance": 1e-3, "text_column": "review", "documents": "lines"}
    [one] = Entry(model="smollm2-135m", **given).settings()
    assert one.model_dump(include=set(given)) == given


def test_a_step_is_given_as_one_of_steps(tmp_path):
    path = tmp_path / "sweep.yml"
    path.write_text("studies:\n  - model: reviews-neox\n    step: 4\n")
    with pytest.raises(RaretokError, match=r"sweep.yml:3: studies.0.step: Value error, give steps: \[4\]"):
        load_sweep(path)
