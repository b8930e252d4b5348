"""The machine's cores, memory and GPUs as numbers, read from a tree of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowcore.executors.budget import Budget, Request, usable_cores, visible_gpus


def cgroup(root: Path, membership: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    else:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)


V2, V1 = "0::/pods/mine\n", "3:cpu,cpuacct:/docker/abc\n1:memory:/docker/abc\n"
TREES = [
    (V2, {}, 8),
    (V2, {"sys/fs/cgroup/pods/mine/cpu.max": "max 100000\n"}, 8),
    (V2, {"sys/fs/cgroup/pods/mine/cpu.max": "200000 100000\n"}, 2),
    (V2, {"sys/fs/cgroup/pods/mine/cpu.max": "150000 100000\n"}, 2),
    (V2, {"sys/fs/cgroup/pods/mine/cpu.max": "10000 100000\n"}, 1),
    (V2, {"sys/fs/cgroup/pods/mine/cpu.max": "max 100000\n", "sys/fs/cgroup/pods/cpu.max": "300000 100000\n"}, 3),
    ("0::/\n", {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
    (V1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2),
    (
        V1,
        {
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "500000",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
        },
        5,
    ),
    (V1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
    (V2, {"sys/fs/cgroup/pods/mine/cpu.max": "9000000 100000\n"}, 8),
]


@pytest.mark.parametrize(("membership", "files", "cores"), TREES)
def test_usable_cores_honour_affinity_and_quotas(membership: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert usable_cores(cgroup(tmp_path, membership, files)) == cores


def test_machine_without_cgroups_has_the_cores_of_its_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def test_budget_takes_and_gives_back() -> None:
    budget = Budget(cpus=2, memory_bytes=100)
    request = Request(cpus=1.5, memory_bytes=60)
    assert budget.take(request) == ()
    assert budget.take(request) is None
    budget.give(request, ())
    assert budget.take(request) == ()


def test_ten_tenths_of_a_core_fit_into_one() -> None:
    budget = Budget(cpus=1)
    assert [budget.take(Request(cpus=0.1)) for _ in range(11)] == [()] * 10 + [None]


def test_gpus_are_handed_out_by_index() -> None:
    budget = Budget(gpus=(0, 3))
    assert budget.take(Request(gpus=1)) == ("0",)
    assert budget.take(Request(gpus=1)) == ("3",)
    assert budget.take(Request(gpus=1)) is None
    budget.give(Request(gpus=1), ("3",))
    assert budget.take(Request(gpus=1)) == ("3",)


def test_shares_of_a_gpu_fill_one_before_the_next() -> None:
    budget = Budget(gpus=(0, 1))
    assert [budget.take(Request(gpus=0.5)) for _ in range(2)] == [("0",), ("0",)]
    assert budget.take(Request(gpus=1)) == ("1",)


NEVER = [
    (Request(cpus=3), "asks for 3 cores, and the budget is 2"),
    (Request(memory_bytes=200), "asks for 200 bytes of memory, and the budget is 100"),
    (Request(gpus=2), "asks for 2 GPUs, and the budget is 1"),
]


@pytest.mark.parametrize(("request_", "text"), NEVER)
def test_request_that_can_never_fit_is_named_with_the_budget(request_: Request, text: str) -> None:
    assert Budget(cpus=2, memory_bytes=100, gpus=(0,)).never(request_) == text
    assert Budget(cpus=4, memory_bytes=400, gpus=(0, 1)).never(request_) is None


def test_one_and_a_half_gpus_are_refused() -> None:
    assert "whole number" in str(Budget(gpus=(0, 1)).never(Request(gpus=1.5)))


def test_gpus_are_those_that_this_process_sees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert visible_gpus() == ("2", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: GPU-a)'\necho 'GPU 1: two (UUID: GPU-b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus() == ("0", "1")
    monkeypatch.setenv("PATH", "/nowhere")
    assert visible_gpus() == ()
