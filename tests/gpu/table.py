#!/usr/bin/env python3
"""Turns the profiles that measure.sh recorded into one table: what was promised, what was measured."""
import argparse
import gzip
import json
import pathlib
import statistics


def load(path):
    with gzip.open(path, "rt") as file:
        return json.load(file)


def nanos(value):
    """A time as profiles write it: nanoseconds, or a number with its unit."""
    units = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    if not isinstance(value, str):
        return float(value)
    unit = next(unit for unit in units if value.endswith(unit))
    return float(value.removesuffix(unit)) * units[unit]


def steady(profile):
    """The median pass after the first, from marks on the compute stream."""
    passes = profile["header"]["measured"]["passes"][0]
    return statistics.median(passes[1:] or passes)


def spans_rate(profile):
    """Bytes over time of large copies to the device, without latency's share in small ones."""
    copies = [s for s in profile["spans"] if s["op"] == "copy" and s.get("bytes", 0) >= 16 << 20]
    time = sum(s["end"] - s["start"] for s in copies)
    return sum(s["bytes"] for s in copies) / time if time else 0.0


def row(name, promised, measured, held):
    mark = {True: "yes", False: "NO", None: "?"}[held]
    print(f"| {name} | {promised} | {measured} | {mark} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    for name in ("quick", "full", "tests", "sanitizer", "nvbandwidth"):
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args()
    probe = json.loads((args.out / "probe.json").read_text())
    print(f"{probe['name']}, CUDA driver {probe['driver']}; {probe['source']}\n")
    print("| what | promised | measured | held |")
    print("|---|---|---|---|")
    row("conformance tests", "pass", args.tests, args.tests == "pass")
    row("probe --quick", "< 10 s", f"{args.quick} s", float(args.quick or 99) < 10)
    row("probe", "< 60 s", f"{args.full} s", float(args.full or 99) < 60)
    h2d = probe["h2d"]["bytes_per_s"] / 1e9
    if args.nvbandwidth:
        tests = json.loads(pathlib.Path(args.nvbandwidth).read_text())["nvbandwidth"]["testcases"]
        other = float(tests[0]["sum"])
        row("probe h2d", "within 2 % of nvbandwidth", f"{h2d:.2f} against {other:.2f} GB/s", abs(h2d / other - 1) <= 0.02)
    else:
        row("probe h2d", "within 2 % of nvbandwidth", f"{h2d:.2f} GB/s, nvbandwidth not installed", None)
    row("compute-sanitizer", "clean", args.sanitizer, None if "not" in args.sanitizer else "FAILED" not in args.sanitizer)
    digests = {}
    for path in sorted(args.out.glob("*.hybrid.json.gz")):
        base = path.name.removesuffix(".hybrid.json.gz")
        ours = load(path)
        header, measured = ours["header"], ours["header"]["measured"]
        component = header["components"][0]
        predicted, bound = nanos(component["prediction"]["pass"]), component["bound"]
        least, any_schedule = max(nanos(bound["compute"]), nanos(bound["copy"])), nanos(bound["any_schedule"])
        time = steady(ours)
        off = time / predicted - 1
        row(f"{base}: pass", "within 5 % of predicted", f"{time / 1e6:.2f} ms, predicted {predicted / 1e6:.2f} ms ({off:+.1%}), {bound['binding']}-bound", abs(off) <= 0.05)
        if predicted / any_schedule - 1 < 0.01:
            row(f"{base}: bound", "within 3 % of max(compute, copy)", f"{time / least - 1:+.1%}", time / least - 1 <= 0.03)
        if bound["binding"] == "copy":
            rate = spans_rate(ours)
            row(f"{base}: h2d in the run", ">= 97 % of the probe", f"{rate:.2f} of {h2d:.2f} GB/s ({rate / h2d:.1%})", rate / h2d >= 0.97)
        issue = measured["issue_per_operation"]
        row(f"{base}: issue", "< 4 us each", f"{issue / 1e3:.2f} us, {measured['operations']} operations", issue < 4_000)
        used = measured["driver_peak"] - measured["driver_before"]
        plan = header["slab"] + (measured["allocated"] - header["slab"])
        row(f"{base}: VRAM by the driver", "<= what was allocated, to 2 MiB pages", f"{used / 2**20:.0f} of {plan / 2**20:.0f} MiB", used <= plan + (16 << 20))
        if "overhead" in measured:
            cost = measured["overhead"]["timed"] / measured["overhead"]["untimed"] - 1
            row(f"{base}: cost of profiling", "stated", f"{cost:+.2%}", None)
        gemm = args.out / f"{base}.gemm.json.gz"
        if gemm.exists():
            run = load(gemm)
            row(f"{base}: with products", "stated", f"{steady(run) / 1e6:.2f} ms, {run['header']['measured']['compute']}", None)
        for other in sorted(args.out.glob(f"{base}.*.json.gz")):
            name = other.name.removeprefix(f"{base}.").removesuffix(".json.gz")
            if name.endswith("verify"):
                run = load(other)["header"]
                digests.setdefault(base.rsplit("-", 1)[0], set()).add(run["measured"].get("digest"))
                row(f"{base}: {name}", "every byte right", f"{run['measured']['verified_passes']} passes", run["complete"])
            elif name not in ("hybrid", "gemm"):
                peer = steady(load(other))
                row(f"{base}: {name}", "not faster than ours by more than 1 %", f"{peer / 1e6:.2f} ms ({peer / time - 1:+.1%})", peer >= time * 0.99)
    for model, found in digests.items():
        row(f"{model}: digest", "one for every policy and budget", " ".join(map(str, sorted(map(str, found)))), len(found) == 1)


main()
