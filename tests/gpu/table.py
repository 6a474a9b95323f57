#!/usr/bin/env python3
"""Turns what measure.sh recorded into one table: what was promised, what was measured, whether it holds."""
import argparse
import gzip
import json
import pathlib
import re
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
    """The pass after the first: the median, or the mean of what graphs launched, whose barriers count."""
    measured = profile["header"]["measured"]
    passes = measured["passes"][0]
    issued = measured["graphs"][0]
    if issued["launches"]:
        return statistics.mean(passes[1 : 1 + issued["launches"] * issued["passes_per_launch"]])
    return statistics.median(passes[1:] or passes)


def spans_rate(profile):
    """Bytes over time of copies to the device: the large ones, or all where none is."""
    copies = [s for s in profile["spans"] if s["op"] == "copy" and s.get("bytes", 0)]
    copies = [s for s in copies if s["bytes"] >= 16 << 20] or copies
    time = sum(s["end"] - s["start"] for s in copies)
    return sum(s["bytes"] for s in copies) / time if time else 0.0


def row(name, promised, measured, held):
    mark = {True: "yes", False: "NO", None: "?"}[held]
    print(f"| {name} | {promised} | {measured} | {mark} |")


def probe_rows(args, probe):
    row("conformance tests", "pass", args.tests, args.tests == "pass")
    row("commands of this script", "none fails", f"{args.failed} failed", args.failed == "0")
    row("probe --quick", "< 10 s", f"{float(args.quick):.1f} s", float(args.quick) < 10)
    row("probe", "< 60 s", f"{float(args.full):.1f} s", float(args.full) < 60)
    largest = max(probe["h2d"]["points"], key=lambda point: point["bytes"])
    h2d, loop = largest["bytes_per_s"] / 1e9, float(args.loop)
    row("probe: h2d of the largest copy", "within 2 % of a plain loop", f"{h2d:.2f} against {loop:.2f} GB/s", abs(h2d / loop - 1) <= 0.02)
    if args.nvbandwidth:
        tests = json.loads(pathlib.Path(args.nvbandwidth).read_text())["nvbandwidth"]["testcases"]
        other = float(tests[0]["sum"])
        row("probe: h2d of the largest copy", "within 2 % of nvbandwidth", f"{h2d:.2f} against {other:.2f} GB/s", abs(h2d / other - 1) <= 0.02)
    else:
        row("probe: h2d of the largest copy", "within 2 % of nvbandwidth", "nvbandwidth not installed", None)
    row("compute-sanitizer", "clean", args.sanitizer, None if "not" in args.sanitizer else "FAILED" not in args.sanitizer)


def pass_rows(base, folder, h2d):
    ours = load(folder / "spin.json.gz")
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
    issue, operations = measured["issue_per_operation"], measured["operations"]
    row(f"{base}: host, an operation", "< 4 us", f"{issue / 1e3:.2f} us, timed", issue < 4_000)
    row(f"{base}: host, a pass of 500", "< 2 ms", f"{issue * 500 / 1e6:.2f} ms by that ({operations} operations here)", issue * 500 < 2e6)
    used = measured["driver_peak"] - measured["driver_before"]
    row(f"{base}: VRAM by the driver", "<= what was allocated, to 2 MiB pages", f"{used / 2**20:.0f} of {measured['allocated'] / 2**20:.0f} MiB", used <= measured["allocated"] + (16 << 20))
    cost = measured["overhead"]["timed"] / measured["overhead"]["untimed"] - 1
    row(f"{base}: cost of profiling", "stated", f"{cost:+.2%}", None)
    return time


def run_rows(base, folder):
    graph = load(folder / "graph.json.gz")
    issued = graph["header"]["measured"]["graphs"][0]
    how = "graphs" if issued["launches"] else "streams"
    trial = f"; trial {issued['streams'] / 1e6:.3f} ms by streams, {issued['graph'] / 1e6:.3f} by graphs" if "graph" in issued else ""
    row(f"{base}: --graph auto", "the faster", f"{steady(graph) / 1e6:.2f} ms by {how} ({issued['why']}){trial}", None)
    gemm = load(folder / "gemm.json.gz")
    row(f"{base}: with products", "stated", f"{steady(gemm) / 1e6:.2f} ms, {gemm['header']['measured']['compute']}", None)
    verify = load(folder / "verify.json.gz")["header"]
    row(f"{base}: every byte of every pass", "right", f"{verify['measured']['verified_passes']} passes", verify["complete"])
    return verify["measured"].get("digest")


def compare_rows(base, folder):
    runs = json.loads((folder / "compare" / "compare.json").read_text())["measured"]
    ours = runs[0]["measured_pass_ns"]
    for run in runs[1:]:
        time = run["measured_pass_ns"]
        if time is None:
            row(f"{base}: {run['policy']}", "runs", run["failed"], False)
            continue
        predicted = run["predicted_pass_ns"]
        text = f"{time / 1e6:.2f} ms ({time / ours - 1:+.1%}), predicted {predicted / 1e6:.2f} ms ({time / predicted - 1:+.1%})"
        row(f"{base}: {run['policy']}", "not faster than ours by more than 1 %", text, time >= ours * 0.99)
    return {run["digest"] for run in runs if run["measured_pass_ns"] is not None}


def boundary_rows(base, folder):
    """The first pass of a component that follows another, from the end of the use before; what was copied by then."""
    for file in ("spin", "graph"):
        profile = load(folder / f"{file}.json.gz")
        header, measured = profile["header"], profile["header"]["measured"]
        spans = profile["spans"]
        for n, component in enumerate(header["components"]):
            passes, name = measured["passes"][n], component["name"]
            if n == 0:
                continue
            predicted = nanos(component["prediction"]["first_pass"])
            first, off = passes[0], passes[0] / predicted - 1
            ended = max(s["end"] for s in spans if s["lane"] == "compute" and s["component"] == n - 1)
            copies = [s for s in spans if s["lane"] == "h2d" and s["component"] == n]
            early = sum(s.get("bytes", 0) for s in copies if s["start"] < ended)
            before = f"{early / 2**20:.1f} of {sum(s.get('bytes', 0) for s in copies) / 2**20:.1f} MiB copied before"
            text = f"{first / 1e6:.3f} ms, predicted {predicted / 1e6:.3f} ms ({off:+.1%})"
            if len(passes) > 1:
                later = statistics.median(passes[1:])
                cost = predicted - nanos(component["prediction"]["pass"])
                text += f"; the boundary costs {(first - later) / 1e6:.3f} ms, predicted {cost / 1e6:.3f} ms"
            promised, held = ("within 5 % of predicted", abs(off) <= 0.05) if file == "spin" else ("stated", None)
            row(f"{base}: first pass of {name}{', --graph auto' if file == 'graph' else ''}", promised, f"{text}; {before}", held)
    found = set()
    for file in ("verify", "verify-graph"):
        verify = load(folder / f"{file}.json.gz")["header"]
        found.add(verify["measured"].get("digest"))
        row(f"{base}: every byte, {file}", "right", f"{verify['measured']['verified_passes']} passes", verify["complete"])
    return found


def sizes(text, key):
    """Every value of a key in a plan's text, in bytes."""
    units = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    found = re.findall(rf"\b{key}: (\d+)([KMG]i?B|B|)\b", text)
    return [int(number) * units[unit] for number, unit in found]


def disk_rows(base, folder):
    profile, verify = load(folder / "spin.json.gz"), load(folder / "verify.json.gz")["header"]
    header, measured = profile["header"], profile["header"]["measured"]
    planned = sum(sizes(header["plan"], "locked"))
    row(f"{base}: page-locked memory", "what the plan says, to a page", f"{measured['locked']} of {planned} bytes", abs(measured["locked"] - planned) <= 4096)
    reads = [s for s in profile["spans"] if s["op"] == "read"]
    busy = sum(s["end"] - s["start"] for s in reads)
    rate = f"{sum(s['bytes'] for s in reads) / busy:.2f} GB/s" if busy else "no time"
    predicted = nanos(header["components"][0]["prediction"]["pass"])
    row(f"{base}: pass", "stated", f"{steady(profile) / 1e6:.2f} ms, predicted {predicted / 1e6:.2f} ms; {len(reads)} reads at {rate}", None)
    row(f"{base}: every byte of every pass", "right", f"{verify['measured']['verified_passes']} passes", verify["complete"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    for name in ("quick", "full", "tests", "sanitizer", "loop", "nvbandwidth", "failed"):
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args()
    probe = json.loads((args.out / "probe.json").read_text())
    print(f"{probe['name']}, CUDA driver {probe['driver']}; {probe['source']}\n")
    print("| what | promised | measured | held |")
    print("|---|---|---|---|")
    probe_rows(args, probe)
    h2d = probe["h2d"]["bytes_per_s"] / 1e9
    digests = {}
    for path in sorted(args.out.glob("*/plan.yaml")):
        folder, base = path.parent, path.parent.name
        seen = digests.setdefault(base.rsplit("-", 1)[0], set())
        parts = [lambda: pass_rows(base, folder, h2d), lambda: seen.add(run_rows(base, folder)), lambda: seen.update(compare_rows(base, folder))]
        for part in parts:
            try:
                part()
            except (OSError, KeyError, TypeError, IndexError, ZeroDivisionError) as missing:
                row(f"{base}: a run", "recorded", f"{type(missing).__name__}: {missing}", False)
    for name, rows in (("pipeline", boundary_rows), ("disk", disk_rows)):
        for path in sorted(args.out.glob(f"*/{name}.yaml")):
            folder, base = path.parent, path.parent.name
            try:
                found = rows(base, folder)
                if found is not None:
                    row(f"{base}: digest", "one, by streams and by graphs", ", ".join(sorted(map(str, found))), len(found) == 1)
            except (OSError, KeyError, TypeError, IndexError, ValueError) as missing:
                row(f"{base}: a run", "recorded", f"{type(missing).__name__}: {missing}", False)
    for model, found in digests.items():
        row(f"{model}: digest", "one for every policy and budget", ", ".join(sorted(map(str, found))), len(found) == 1)
    issue = args.out / "issue.txt"
    if issue.exists() and issue.read_text().strip():
        print("\nHost time to issue, `cargo bench --bench cuda`:\n")
        print("```\n" + issue.read_text().rstrip() + "\n```")


main()
