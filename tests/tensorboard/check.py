#!/usr/bin/env python3
"""Holds the exported trace to the reader of the TensorBoard profiler plugin: no slice is lost, planned lanes are no GPU work.

    python3 -m venv venv && venv/bin/pip install torch-tb-profiler==0.4.3
    venv/bin/python tests/tensorboard/check.py report/trace.json.gz

The plugin's own parser reads the file as its page would (its page itself is not opened). Held: every X event of ours that
is GPU work becomes one event of the plugin; its kernels and copies are as many as ours and none of the planned lanes'; the
copy time that it calls exposed is the time of copies that no kernel covers, counted here from the same rows. It works in
floating-point microseconds, so times are compared to a hundredth of one.
"""
import gzip
import json
import sys
import tempfile
from collections import Counter

from torch_tb_profiler.profiler.data import RunProfileData
from torch_tb_profiler.profiler.event_parser import ProfileRole

KINDS = {"kernel": "Kernel", "gpu_memcpy": "Memcpy"}


def union(ranges):
    """Disjoint ranges, sorted."""
    merged = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def exposed(copies, kernels):
    """The time of copies that no kernel covers."""
    total = 0.0
    for start, end in union(copies):
        total += end - start
        for from_, to in union(kernels):
            total -= max(0.0, min(end, to) - max(start, from_))
    return total


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with gzip.open(sys.argv[1], "rt") as file:
        events = json.load(file)["traceEvents"]
    ours = [event for event in events if event.get("ph") == "X" and event["cat"] in KINDS]
    planned = [event for event in events if event.get("cat") == "plan"]
    with tempfile.TemporaryDirectory() as cache:
        profile = RunProfileData.parse("worker", "span", sys.argv[1], cache)
    theirs = Counter(event.type for event in profile.events)
    failed = False

    def hold(what, holds, detail=""):
        nonlocal failed
        failed |= not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}{detail}")

    for category, name in KINDS.items():
        count = sum(event["cat"] == category for event in ours)
        hold(f"{name}: {count} of ours, {theirs[name]} of theirs", count == theirs[name])
    lengths = sum(event["dur"] for event in ours)
    read = sum(event.duration for event in profile.events if event.type in KINDS.values())
    hold(f"their durations: {lengths:.3f} us of ours, {read:.3f} us of theirs", abs(lengths - read) < 0.01)
    seen = {event.name for event in profile.events if event.type in KINDS.values()}
    hold(f"{len(planned)} planned slices are no GPU work", not any(e["name"] in seen and e["pid"] == 0 for e in planned))
    span = lambda cat: [(e["ts"], e["ts"] + e["dur"]) for e in ours if e["cat"] == cat]
    want = exposed(span("gpu_memcpy"), span("kernel"))
    got = sum(step.costs[ProfileRole.Memcpy] for step in profile.steps_costs)
    hold(f"exposed copy time: {want:.3f} us of ours, {got:.3f} us of theirs", abs(want - got) < max(0.01, want * 1e-6))
    sys.exit(failed)


if __name__ == "__main__":
    main()
