"""What this machine allows: memory within its limits, cores."""

import os
from pathlib import Path

# Control groups, version 2: what a container may use and uses. The cache of files is given back when it is needed.
_CGROUP = Path("/sys/fs/cgroup")


def memory_available() -> int:
    """Bytes that this process may still take, by the kernel's estimate and its container's limit."""
    return min(_system_available(), _container_available())


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def _system_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo names no MemAvailable")


def _container_available() -> int:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return 2**63
        used = int((_CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return 2**63
    return int(limit) - used + int(statistics["inactive_file"]) + int(statistics["active_file"])
