"""This machine: what it is, whether it is quiet, and a child whose processor time and memory are known."""

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
TICK = os.sysconf("SC_CLK_TCK")
# A run is begun once all others together take less than this part of the machine, and disturbed if they took more than that.
QUIET, DISTURBED = 0.04, 1 / 12
QUIET_WINDOW_SECONDS = 2.0


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def description() -> dict:
    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
        wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
        name += f" ({', '.join(flag for flag in wanted if flag in flags)})" if flags else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": name, "cores": cores(), "memory_gb": round(memory / 1e9, 1), "system": f"{platform.system()} {platform.machine()}"}


def busy_seconds() -> float:
    """Processor time of all programs since the start of the machine; waiting for disks is none. Not a number where nobody counts it."""
    if not STAT.exists():
        return float("nan")
    user, nice, system, _idle, _wait, *rest = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    # The last of them is what other guests took from this one: that disturbs, too.
    return (user + nice + system + sum(rest)) / TICK


def wait_for_quiet(seconds_max: float) -> bool:
    """Waits until nobody else computes; whether that came in time. True where nobody counts."""
    end = time.monotonic() + seconds_max
    while True:
        begin, busy = time.monotonic(), busy_seconds()
        time.sleep(QUIET_WINDOW_SECONDS)
        share = (busy_seconds() - busy) / (time.monotonic() - begin) / cores()
        if not share >= QUIET:
            return True
        if time.monotonic() > end:
            return False


@dataclass
class Ran:
    code: int
    stdout: str
    stderr: str
    seconds: float
    processor_seconds: float
    peak_mb: float
    # What others took of the machine meanwhile, 0 to 1; the web server counts as one of the run's own.
    others: float


def run(command: list, stdin: str = "", seconds_max: float = 600.0, own: tuple = (), **options) -> Ran:
    """Runs a child to its end, and ends it after ten minutes. `own` are processes that work for it."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        given.write(stdin)
        given.seek(0)
        busy, ours, begin = busy_seconds(), processor_of(own), time.monotonic()
        child = subprocess.Popen(command, stdin=given, stdout=out, stderr=err, **options)
        killer = threading.Timer(seconds_max, child.kill)
        killer.start()
        try:
            # Not `child.wait()`, which keeps no resource usage. A child's peak begins at that of its parent, which is why the parent is small.
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        finally:
            killer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds, used = time.monotonic() - begin, usage.ru_utime + usage.ru_stime
        others = max(0.0, busy_seconds() - busy - used - (processor_of(own) - ours)) / seconds / cores()
        out.seek(0), err.seek(0)
        peak = usage.ru_maxrss / (1 if sys.platform == "darwin" else 1024) / (1024**2 if sys.platform == "darwin" else 1)
        return Ran(child.returncode, out.read(), err.read(), seconds, used, round(peak, 1), round(others, 4) if others == others else 0.0)


def shortened(text: str) -> str:
    """The beginning and the end of what a child said: the one has the panic, the other the exception."""
    text = text.strip()
    return text if len(text) <= 1000 else f"{text[:500]} … {text[-500:]}"


def processor_of(processes: tuple) -> float:
    """Processor time of these processes so far."""
    total = 0.0
    for process in processes:
        stat = Path(f"/proc/{process}/stat")
        if stat.exists():
            # The name, in brackets, may hold anything.
            fields = stat.read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total
