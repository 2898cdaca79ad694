"""The script for SLURM on two nodes made of local processes, each in namespaces of its own.

`srun` and `scontrol` are played by scripts; Ray, its `symmetric-run` and the run are real. Needs root and Linux's `ip`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT
from small_protocol import PROTOCOL, made, metrics

NODES = {"slurm-a": "10.213.7.1", "slurm-b": "10.213.7.2"}
BRIDGE = "slurm-bridge"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare")),
        reason="needs root, and Linux's ip and unshare, to make two nodes of one machine",
    ),
]

# On a node: processes, mounts, name and Ray's folder are its own, and its name has its address.
ON_NODE = """#!/usr/bin/env bash
node=$1; shift
exec ip netns exec "$node" unshare --pid --mount --uts --fork --mount-proc --kill-child -- bash -c '
  node=$1; shift
  hostname "$node"
  mount --bind "$0/hosts" /etc/hosts
  mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray
  exec "$@"' "{folder}" "$node" "$@"
"""
# A task on every node that is asked for; the status is the highest of theirs, as SLURM has it.
SRUN = """#!/usr/bin/env bash
nodes={nodes}
while [[ $1 == --* ]]; do
  case $1 in --nodelist=*) nodes=${{1#--nodelist=}} ;; esac
  shift
done
status=0 pids=()
for node in $nodes; do "{folder}/on-node" "$node" "$@" & pids+=($!); done
for pid in "${{pids[@]}}"; do wait "$pid" || {{ code=$?; ((code > status)) && status=$code; }}; done
exit "$status"
"""
SCONTROL = """#!/usr/bin/env bash
[[ "$*" == "show hostnames slurm-[a-b]" ]] && printf '%s\\n' {nodes}
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Path]:
    """A folder with the commands of a SLURM of two nodes, which are there as long as the test lasts."""
    folder = tmp_path / "commands"
    folder.mkdir()
    hosts = ["127.0.0.1 localhost", *(f"{address} {node}" for node, address in NODES.items())]
    (folder / "hosts").write_text("\n".join(hosts) + "\n")
    for name, text in (("on-node", ON_NODE.replace("{folder}", str(folder))),
                       ("srun", SRUN.format(folder=folder, nodes=f'"{" ".join(NODES)}"')),
                       ("scontrol", SCONTROL.format(nodes=" ".join(NODES)))):  # fmt: skip
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("link", "set", BRIDGE, "up")
        for number, (node, address) in enumerate(NODES.items()):
            ip("netns", "add", node)
            ip("link", "add", f"slurm-v{number}", "type", "veth", "peer", "name", "eth0", "netns", node)
            ip("link", "set", f"slurm-v{number}", "master", BRIDGE, "up")
            for device in ("lo", "eth0"):
                ip("-n", node, "link", "set", device, "up")
            ip("-n", node, "address", "add", f"{address}/24", "dev", "eth0")
    except subprocess.CalledProcessError:
        taken_down()
        pytest.skip("no bridge, or no network namespace, can be made here")
    yield folder
    taken_down()


def taken_down() -> None:
    for node in NODES:
        subprocess.run(["ip", "netns", "delete", node], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def test_a_job_on_two_nodes_makes_what_one_machine_makes(commands: Path, tmp_path: Path) -> None:
    shared, local = tmp_path / "shared", tmp_path / "local"
    for folder in (shared, local):
        folder.mkdir()
        (folder / "small.yaml").write_text(PROTOCOL)
    of_slurm = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "slurm-[a-b]",
        "SLURM_JOB_NUM_NODES": str(len(NODES)),
        "SLURM_CPUS_ON_NODE": "1",
    }
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    arguments = ["small.yaml", "--device", "cpu", "--out", str(shared)]
    job = subprocess.run(
        ["bash", str(ROOT / "docs/slurm.sbatch"), *arguments],
        cwd=shared,
        env={**os.environ, **of_slurm, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert job.returncode == 0, job.stdout[-4000:] + job.stderr[-2000:]
    logs = "".join(log.read_text() for log in shared.glob("runs/stages/*/log.txt"))
    assert set(re.findall(r"slurm-[ab]", logs)) == set(NODES), "both nodes had a part in it"
    alone = [sys.executable, "-m", "benchmark", "run", "small.yaml", "--device", "cpu", "--engine", "local"]
    subprocess.run(alone, cwd=local, check=True, capture_output=True, timeout=900)
    assert made(shared) == made(local)
    assert metrics(shared) == metrics(local)
