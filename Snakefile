# Many studies, one after the other or side by side: run by `raretok sweep`, which also says how it went.
import sys
from pathlib import Path
from shlex import quote

from raretok.sweep.spec import load_sweep

# Paths are those in the folder of the results, where Snakemake works.
OUT = Path()
PLAN = load_sweep(Path(config["sweep"]))
JOBS = PLAN.jobs()
# Many small eigenvalue problems are slower with a thread for each core.
RUN = f"OPENBLAS_NUM_THREADS=1 {quote(sys.executable)} -m raretok job"
WHERE = f"--sweep {quote(config['sweep'])} --out {quote(config['out'])}"
REPORTS = {job: [OUT / "reports" / job / f"{chapter}.ipynb" for chapter in JOBS[job].chapters] for job in JOBS}
# Downloaded checkpoints of one model, in order: each waits for room.
LINES = {}
for name, job in JOBS.items():
    if job.fetched:
        LINES.setdefault((job.settings.model, job.entry.keep), []).append(name)


def room(wildcards):
    """What must be gone before a checkpoint is fetched: the one so many before it."""
    job = JOBS[wildcards.job]
    line = LINES[job.settings.model, job.entry.keep]
    before = line.index(wildcards.job) - PLAN.ahead
    return OUT / "evicted" / f"{line[before]}.json" if before >= 0 and not job.entry.keep else []


# The studies of one entry, whose last tells of training: where checkpoints stay, it waits for all of them.
STEPS = {}
for name, job in JOBS.items():
    STEPS.setdefault(id(job.entry), []).append(name)


def needed(wildcards):
    """What a study needs before it is measured or its ablations are spread."""
    job = JOBS[wildcards.job]
    steps = STEPS[id(job.entry)]
    of_all = job.entry.keep and wildcards.job == steps[-1]
    return [OUT / "fetched" / f"{name}.json" for name in (steps if of_all else [wildcards.job]) if job.fetched]


def size(name):
    """A resource by the model's size; more with each attempt."""
    return lambda wildcards, attempt: JOBS[wildcards.job].resources(attempt)[name]


wildcard_constraints:
    job="[^/]+",
    part="[^/]+",
    chapter="[^/]+",


localrules: all, fetch, evict, compare, book


rule all:
    default_target: True
    input:
        OUT / "book" / "index.html",
        # Named although the pages need them: what is missing in between is otherwise not noticed.
        [OUT / "studies" / f"{job}.json" for job in JOBS],
        [REPORTS[job] for job in JOBS],
        OUT / "models.ipynb",
        [OUT / "evicted" / f"{name}.json" for line, keep in LINES if not keep for name in LINES[line, keep]],


# A checkpoint from the hub, where the sweep asks for it; the hub may be busy, then it is tried again.
rule fetch:
    message:
        "fetch {wildcards.job}"
    input:
        room,
    output:
        OUT / "fetched" / "{job}.json",
    log:
        OUT / "logs" / "fetch" / "{job}.log",
    resources:
        downloads=1,
    shell:
        "{RUN} fetch {wildcards.job} {WHERE} > {log} 2>&1"


# A part of the ablations of one study.
rule shard:
    message:
        "ablate {wildcards.part} of {wildcards.job}"
    input:
        needed,
    output:
        OUT / "shards" / "{job}" / "{part}.done",
    log:
        OUT / "logs" / "shard" / "{job}" / "{part}.log",
    threads: 2
    resources:
        mem_mb=size("mem_mb"),
        runtime=size("runtime"),
        gpu=size("gpu"),
    shell:
        "{RUN} shard {wildcards.job} {wildcards.part} {WHERE} > {log} 2>&1"


# One study → its tables and verdicts in the store.
rule measure:
    message:
        "measure {wildcards.job}"
    input:
        needed,
        lambda wildcards: [OUT / "shards" / wildcards.job / f"{part}.done" for part in JOBS[wildcards.job].shards],
    output:
        OUT / "studies" / "{job}.json",
    log:
        OUT / "logs" / "measure" / "{job}.log",
    threads: 2
    resources:
        mem_mb=size("mem_mb"),
        runtime=size("runtime"),
        gpu=size("gpu"),
    shell:
        "{RUN} measure {wildcards.job} {WHERE} > {log} 2>&1"


# One chapter for one study, as an executed notebook; kernels that start at once may want the same port, then it is tried again.
rule report:
    message:
        "chapter {wildcards.chapter} for {wildcards.job}"
    input:
        OUT / "studies" / "{job}.json",
    output:
        OUT / "reports" / "{job}" / "{chapter}.ipynb",
    log:
        OUT / "logs" / "report" / "{job}" / "{chapter}.log",
    threads: 2
    resources:
        mem_mb=size("mem_mb"),
        runtime=size("runtime"),
    shell:
        "{RUN} report {wildcards.job} {wildcards.chapter} {WHERE} > {log} 2>&1"


# A checkpoint that was downloaded goes when all is done that needs it.
rule evict:
    message:
        "delete {wildcards.job}"
    input:
        OUT / "fetched" / "{job}.json",
        OUT / "studies" / "{job}.json",
        lambda wildcards: REPORTS[wildcards.job],
    output:
        OUT / "evicted" / "{job}.json",
    log:
        OUT / "logs" / "evict" / "{job}.log",
    shell:
        "{RUN} evict {wildcards.job} {WHERE} > {log} 2>&1"


# All studies side by side.
rule compare:
    message:
        "compare all studies"
    input:
        [OUT / "studies" / f"{job}.json" for job in JOBS],
    output:
        OUT / "models.ipynb",
        OUT / "claims.csv",
        OUT / "studies.csv",
    log:
        OUT / "logs" / "compare.log",
    shell:
        "{RUN} compare {WHERE} > {log} 2>&1"


# Pages of the comparison and of every executed chapter.
rule book:
    message:
        "make the pages"
    input:
        OUT / "models.ipynb",
        [REPORTS[job] for job in JOBS],
    output:
        OUT / "book" / "index.html",
    log:
        OUT / "logs" / "book.log",
    shell:
        "{RUN} book {WHERE} > {log} 2>&1"
