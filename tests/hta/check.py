#!/usr/bin/env python3
"""Holds the exported trace to HolisticTraceAnalysis: its time of compute overlapping memory must be ours.

    python3 -m venv venv && venv/bin/pip install HolisticTraceAnalysis==0.5.0
    venv/bin/python tests/hta/check.py target/release/vramplan reports/flux1-dev-rtx-4090-12GiB/trace.json.gz

HTA cuts every interval to whole microseconds, some 0.7 us each. So that nothing is cut, it is given the same trace with
its clock slowed a thousand times: what it takes for microseconds are our nanoseconds, and every figure must be equal.
That the unchanged file loads is held first. HTA's memory type is copies of both directions and memsets.
"""
import gzip
import json
import os
import subprocess
import sys
import tempfile
from decimal import Decimal

from hta.trace_analysis import TraceAnalysis


def ours(binary, path):
    answer = subprocess.run([binary, "trace", path, "--format", "json"], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)["devices"]["0"]


def slowed(path):
    """The trace with every time in nanoseconds where microseconds are expected."""
    with gzip.open(path, "rt") as file:
        trace = json.load(file, parse_float=Decimal)
    for event in trace["traceEvents"]:
        for key in ("ts", "dur"):
            if key in event:
                nanos = Decimal(event[key]) * 1000
                assert nanos == int(nanos), event
                event[key] = int(nanos)
        event.get("args", {}).pop("memory bandwidth (GB/s)", None)
    text = json.dumps(trace, default=float)
    # HTA finds the rank by this text on one line.
    return text.replace('"traceEvents": [', '\n"traceEvents": [')


def theirs(text):
    with tempfile.TemporaryDirectory() as folder:
        with gzip.open(os.path.join(folder, "trace.json.gz"), "wt") as file:
            file.write(text)
        analysis = TraceAnalysis(trace_dir=folder)
        types, _ = analysis.get_gpu_kernel_breakdown(visualize=False, include_memory_kernels=True)
        temporal = analysis.get_temporal_breakdown(visualize=False)
    types = dict(zip(types["kernel_type"], types["sum"]))
    row = temporal.iloc[0]
    return {
        "compute overlapping memory": types.get("COMPUTATION overlapping MEMORY", 0),
        "compute alone": types.get("COMPUTATION", 0),
        "memory alone": types.get("MEMORY", 0),
        "idle": row["idle_time(us)"],
        "window": row["kernel_time(us)"],
    }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    own = ours(sys.argv[1], sys.argv[2])
    with gzip.open(sys.argv[2], "rt") as file:
        unchanged = theirs(file.read())
    other = theirs(slowed(sys.argv[2]))
    part = own["partition_ns"]
    want = {
        "compute overlapping memory": part.get("kernel+memcpy", 0),
        "compute alone": part.get("kernel", 0),
        "memory alone": part.get("memcpy", 0),
        "idle": own["idle_ns"],
        "window": own["window_ns"],
    }
    failed = False
    for name, ns in want.items():
        holds = int(other[name]) == ns
        failed |= not holds
        print(f"{'ok  ' if holds else 'FAIL'} {name}: ours {ns} ns, HTA {int(other[name])} ns")
        print(f"     the file as it is: HTA {unchanged[name]} us")
    sys.exit(failed)


if __name__ == "__main__":
    main()
