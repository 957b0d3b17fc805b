"""How torch's threads wait for each other on the processor; set before torch is imported, as OpenMP reads it then.

A waiting thread that turns in a loop (spins) goes on at once; one that sleeps must be woken. A step has a thousand
short waits: on two idle cores the quickstart's retraining takes 1.6 times as long if the threads sleep. But beside
another busy program a spinning thread takes the core from the thread that it waits for, and the same steps take 1.9
times as long as with sleeping threads (docs/performance.md).
"""

import os
import time

import psutil

SPINS = "3000"
"""How often a waiting thread turns before it sleeps: about a tenth of a millisecond. OpenMP's default is 300,000."""
FREE = 0.85
"""The threads spin if at least this part of the process's cores is free of other programs."""
_LEAST = 0.2
"""Seconds over which the load is measured, or longer if this module was imported earlier."""


def _now() -> tuple[float, float, float]:
    """Seconds on the clock, of all cores' work, and of this process's work."""
    times = psutil.cpu_times()._asdict()
    worked = sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return time.perf_counter(), worked, time.process_time()


_BEGAN = _now()


def choose_waiting() -> None:
    """Makes waiting threads spin for a moment if the cores are idle, and else sleep at once.

    Does nothing if OMP_WAIT_POLICY or GOMP_SPINCOUNT is set.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    if taken_by_others() <= (1 - FREE) * own_cores():
        os.environ["GOMP_SPINCOUNT"] = SPINS
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def taken_by_others() -> float:
    """How many of the process's cores other programs use, on average since this module was imported."""
    time.sleep(max(0.0, _LEAST - (time.perf_counter() - _BEGAN[0])))
    seconds, worked, own = (now - began for now, began in zip(_now(), _BEGAN, strict=True))
    others = max(0.0, worked - own) / seconds
    spare = (psutil.cpu_count() or 1) - own_cores()  # cores of the machine that this process may not use
    return max(0.0, others - spare)


def own_cores() -> int:
    """How many cores this process may use; all of the machine's where the system cannot tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
