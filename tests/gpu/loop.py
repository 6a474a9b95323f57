#!/usr/bin/env python3
"""Turns a plain loop of cuMemcpyHtoDAsync into GB/s: what the probe is held against, with none of its code.

Copies from page-locked memory, back to back on one stream, between two events; the median of several rounds.
"""
import ctypes
import statistics
import sys

MOST = 256 << 20
COPIES = 16
ROUNDS = 7


def driver():
    for name in ("libcuda.so.1", "libcuda.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    sys.exit("no CUDA driver library")


cuda = driver()


def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        sys.exit(f"{name}: status {status}")


def main():
    index = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    size = min(MOST, free.value // 4)
    to, source = ctypes.c_uint64(), ctypes.c_void_p()
    call("cuMemAlloc_v2", ctypes.byref(to), ctypes.c_size_t(size))
    call("cuMemHostAlloc", ctypes.byref(source), ctypes.c_size_t(size), 0)
    stream = ctypes.c_void_p()
    call("cuStreamCreateWithPriority", ctypes.byref(stream), 1, 0)
    start, end = ctypes.c_void_p(), ctypes.c_void_p()
    for event in (start, end):
        call("cuEventCreate", ctypes.byref(event), 0)
    rates = []
    for _ in range(ROUNDS + 1):
        call("cuEventRecord", start, stream)
        for _ in range(COPIES):
            call("cuMemcpyHtoDAsync_v2", to, source, ctypes.c_size_t(size), stream)
        call("cuEventRecord", end, stream)
        call("cuEventSynchronize", end)
        milliseconds = ctypes.c_float()
        call("cuEventElapsedTime", ctypes.byref(milliseconds), start, end)
        rates.append(size * COPIES / milliseconds.value / 1e6)
    # The first round is the warm-up.
    print(f"{statistics.median(rates[1:]):.3f}")
    call("cuStreamSynchronize", stream)
    for event in (start, end):
        call("cuEventDestroy_v2", event)
    call("cuStreamDestroy_v2", stream)
    call("cuMemFreeHost", source)
    call("cuMemFree_v2", to)
    call("cuDevicePrimaryCtxRelease_v2", device)


main()
