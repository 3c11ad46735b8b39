"""A real Slurm of one node that lives in one folder: its own keys, sockets, ports and logs, and nothing left of it
after.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=2
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
TOOLS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "srun", "squeue", "scancel")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def why_not() -> str | None:
    """Why there can be no cluster here, None if there can."""
    if os.geteuid() != 0:
        return "Slurm's node starts jobs as their users, which takes root"
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=PATH)]
    return f"there is no {', '.join(missing)} (Debian's slurm-wlm and munge)" if missing else None


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def slurm(folder: Path, seconds: float = 30) -> Iterator[dict[str, str]]:
    """Start a cluster; the environment in which Slurm's commands find it. What was started is stopped, by pid."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    controller, node = free_ports(2)
    config = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    config.write_text(CONFIG.format(folder=folder, host=host, controller=controller, node=node))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
    # Snakemake's step inside a job drops SLURM_CONF, which a cluster that is installed in its place does without.
    (folder / "bin").mkdir()
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which("srun", path=PATH)} "$@"\n')
    srun.chmod(0o755)
    environment = clean | {"SLURM_CONF": str(config), "PATH": f"{folder}/bin:{PATH}"}
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("ab") as log:
            started.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            )

    def ask(*command: str) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()

    def wait_for(what: str) -> None:
        end = time.monotonic() + seconds
        while not ((folder / "munge.sock").exists() if what == "munged" else ask("sinfo", "-h", "-o", "%T") == "idle"):
            dead = [p.args for p in started if p.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(f"{what} is not ready; ended: {dead}; its logs are in {folder}")
            time.sleep(0.1)

    try:
        places = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        start("munged", "--foreground", "--force", *(f"--{k}={folder}/munge.{v}" for k, v in places.items()))
        wait_for("munged")
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-c", "-N", "node0")
        wait_for("the node")
        yield environment
    finally:
        ask("scancel", "--user=root")
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in _steps(config):  # not our children, and they outlive the node
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _steps(config: Path) -> list[int]:
    """Processes of this cluster's jobs."""
    mark, found = f"SLURM_CONF={config}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            step = (process / "comm").read_text().startswith("slurmstepd")
            if mark in variables and (step or any(v.startswith(b"SLURM_JOB_ID=") for v in variables)):
                found.append(int(process.name))
    return found
