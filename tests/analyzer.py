#!/usr/bin/env python3
"""`flowlane analyze` beside the analyzer of the Python package `netflow`, on the same files.

    tests/analyzer.py target/release/flowlane

Every row that the package gets right is ours to the letter; each of the others is shown to be wrong, by pairing the flows of the
file here once more. The Python that runs it needs `netflow` (pip install netflow==0.12.2). No network.
"""
import contextlib
import gzip
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools", "record"))
sys.dont_write_bytecode = True
import reference  # noqa: E402

FIXTURES = os.path.join(ROOT, "fixtures")
# Version, recording, and what the package's analyzer does with it.
CONNECTIONS = [("v1", "softflowd_v1"), ("v5", "demo/softflowd_v5"), ("v9", "demo/softflowd_v9"), ("IPFIX", "softflowd_ipfix_micro_over_v6")]
NAMES = {  # of v1 and v5, of v9, of IPFIX
    "src": ["IPV4_SRC_ADDR", "IPV6_SRC_ADDR", "sourceIPv4Address", "sourceIPv6Address"],
    "dst": ["IPV4_DST_ADDR", "IPV6_DST_ADDR", "destinationIPv4Address", "destinationIPv6Address"],
    "sport": ["SRC_PORT", "L4_SRC_PORT", "sourceTransportPort"],
    "dport": ["DST_PORT", "L4_DST_PORT", "destinationTransportPort"],
    "proto": ["PROTO", "PROTOCOL", "protocolIdentifier"],
    "bytes": ["IN_OCTETS", "IN_BYTES", "octetDeltaCount"],
    "packets": ["IN_PACKETS", "IN_PKTS", "packetDeltaCount"],
    "start": ["FIRST_SWITCHED", "flowStartMicroseconds"],
    "end": ["LAST_SWITCHED", "flowEndMicroseconds"],
}



def same(what, got, want):
    if isinstance(got, list) and len(got) == len(want):
        got, want = next(((a, b) for a, b in zip(got, want) if a != b), (0, 0))
    assert got == want, f"{what}: flowlane {str(got)[:2000]}, the other {str(want)[:2000]}"


def milliseconds(header, value):
    if isinstance(value, list):  # NTP
        return value[0] * 1000 + (value[1] * 1_000_000 >> 32) / 1000
    return header["timestamp"] * 1000 + header.get("timestamp_nano", 0) // 1000 / 1000 - ((header["uptime"] - value + 2**31) % 2**32 - 2**31)


def connections(path):
    """The connections of a file by their whole 5-tuple: time, bytes, milliseconds, packets, ends; the larger sender first."""
    waiting, found = {}, []
    with gzip.open(path, "rt") as f:
        entries_of = sorted((time, entry) for line in f for time, entry in json.loads(line).items())
    for time_received, entry in entries_of:
        flows = []
        for flow in entry["flows"]:
            get = {key: next((flow[n] for n in names if n in flow), None) for key, names in NAMES.items()}
            if get["src"] is None:
                continue
            ends = []
            for address, port in (("src", "sport"), ("dst", "dport")):
                ends.append((str(ipaddress.ip_address(get[address])), None if get["proto"] in (1, 58) else get[port]))
            times = [milliseconds(entry["header"], get[t]) for t in ("start", "end")]
            flows.append((*times, ends[0], ends[1], get["proto"], get["bytes"], get["packets"]))
        for flow in sorted(flows, key=lambda f: f[0]):
            start, end, src, dst, proto, octets, packets = flow
            others = waiting.get((dst, src, proto), [])
            other = next((o for o in others if o[0] <= end + 2000 and start <= o[1] + 2000), None)
            if other is None:
                waiting.setdefault((src, dst, proto), []).append(flow)
                continue
            others.remove(other)
            large, small = (flow, other) if octets >= other[5] else (other, flow)
            stamp = time.strftime("%Y-%m-%d %H:%M.%S", time.gmtime(float(time_received)))
            found.append((stamp, large[5], int(large[1] - large[0]), large[6] + small[6], large[2], large[3], proto))
    return found


def service(src, dst, proto):
    """By the lower port that has a name; nothing where this machine does not know."""
    if src[1] is None:
        return {1: "ICMP", 58: "ICMP6"}[proto]
    for port in sorted((src[1], dst[1])):
        with contextlib.suppress(OSError):
            return socket.getservbyport(port).upper()
    return None


ROW = re.compile(r"(\S+ \S+) \| (.*?) +\| (\S+) +\| (.*?) +\| +(\d+) \| Between \S+ \((\S+)\) and \S+ \((\S+)\)$")


def rows(argv, wrong=False):
    """The rows that an analyzer prints, each as its columns."""
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env={**os.environ, "TZ": "UTC"})
    assert wrong or not run.returncode, run.stderr
    return [match.groups() for match in map(ROW.match, run.stdout.splitlines()) if match], run


def human_size(octets):
    for unit, power in (("K", 1), ("M", 2), ("G", 3)):
        if octets < 1024 ** (power + 1) or unit == "G":
            return f"{octets}B" if octets < 1024 else f"{octets / 1024 ** power:.2f}{unit}"


def check_all(flowlane, folder):
    for version, name in CONNECTIONS:
        path = os.path.join(folder, f"{version}.gz")
        subprocess.run([flowlane, "decode", os.path.join(FIXTURES, name + ".pcap"), "--format", "netflow-json", "--out", path], check=True, timeout=60, stdin=subprocess.DEVNULL)
        want = connections(path)
        ours, _ = rows([flowlane, "analyze", "-n", "-p", "1", "-f", path])
        # The addresses of what is as large both ways may stand either way round.
        plain = [(t, human_size(o), str(p), frozenset((s[0], d[0]))) for t, o, _, p, s, d, _ in want]
        same(f"analyze {version}", sorted((t, z, p, frozenset((s, d)).__str__()) for t, _, z, _, p, s, d in ours),
             sorted((t, z, p, f.__str__()) for t, z, p, f in plain))
        assert len(want) > 50, len(want)
        for row, (_, _, ms, _, src, dst, proto) in zip(ours, want):
            expected = service(src, dst, proto)
            assert expected is None or row[1] == expected, (row, src, dst)
            assert ms >= 60_000 or row[3] == f"{ms // 1000} sec", (row, ms)
        # Of Parquet files the same, in their own order.
        parquet = os.path.join(folder, f"{version}.parquet")
        subprocess.run([flowlane, "decode", os.path.join(FIXTURES, name + ".pcap"), "--out", parquet], check=True, timeout=60, stdin=subprocess.DEVNULL)
        same(f"analyze {version} as Parquet", sorted(rows([flowlane, "analyze", "-n", "-p", "1", "-f", parquet])[0]), sorted(ours))
        theirs, run = rows([sys.executable, "-m", "netflow.analyzer", "-n", "-p", "1", "-f", path], wrong=True)
        if version == "IPFIX":
            assert not theirs and "Skipped IPFIX entry" in run.stderr, run.stderr
            print(f"  analyze {version}: {len(ours)} connections, of which the package's analyzer shows none: it skips IPFIX", flush=True)
            continue
        # A row of theirs is right where it is ours, the service apart, which they look up by the larger sender's port alone.
        left, right, named, wrong = list(ours), 0, 0, []
        for row in theirs:
            match = next((r for r in left if r == row), None) or next((r for r in left if r[0] == row[0] and r[2:] == row[2:]), None)
            if match is None:
                wrong.append(row)
                continue
            left.remove(match)
            right += 1
            if match[1] != row[1]:
                port = re.fullmatch(r"\((\d+) (\d+)\)", row[1])
                ends = next((s, d, p) for t, o, _, n, s, d, p in want if (t, human_size(o), str(n), s[0], d[0]) == (row[0], row[2], row[4], row[5], row[6]))
                assert port is None or port[1] == port[2] or ends[0][1] is None, (row, match)
                named += 1
        # What they show beside ours joins flows of different ports; what they miss did not begin in the same millisecond, or was
        # replaced: they keep one flow for each host and start.
        pairs = {(t, human_size(o), str(p), s[0], d[0]) for t, o, _, p, s, d, _ in want}
        for row in wrong:
            assert (row[0], row[2], row[4], row[5], row[6]) not in pairs, row
        assert right > 50, right
        print(f"  analyze {version}: {len(ours)} connections; of the package's {len(theirs)} rows {right - named} are equal, {named} name the "
              f"service by one port alone, {len(wrong)} join flows of different ports, and {len(left)} are missing", flush=True)
    # Two connections between the same hosts in the same millisecond: theirs joins flows by their addresses alone.
    def flow(there, port, octets):
        ends = (("10.0.0.1", port), ("10.0.0.2", 443))
        (src, sport), (dst, dport) = ends if there else ends[::-1]
        return {"IPV4_SRC_ADDR": src, "IPV4_DST_ADDR": dst, "L4_SRC_PORT": sport, "L4_DST_PORT": dport, "PROTOCOL": 6, "IN_BYTES": octets,
                "IN_PKTS": octets // 100, "FIRST_SWITCHED": 1000, "LAST_SWITCHED": 5000}

    mixed = os.path.join(folder, "mixed.gz")
    entry = {"client": ["127.0.0.1", 1], "header": {"version": 9, "uptime": 9000, "timestamp": 1_700_000_000},
             "flows": [flow(True, 5000, 100), flow(False, 5001, 20_000), flow(True, 5001, 200), flow(False, 5000, 3_000)]}
    with gzip.open(mixed, "wt") as f:
        f.write(json.dumps({"1700000000.5": entry}) + "\n")
    ours, _ = rows([flowlane, "analyze", "-n", "-p", "1", "-f", mixed])
    theirs, _ = rows([sys.executable, "-m", "netflow.analyzer", "-n", "-p", "1", "-f", mixed])
    same("two connections of the same hosts", [(r[2], r[4]) for r in ours], [("19.53K", "202"), ("2.93K", "31")])
    assert [(r[2], r[4]) for r in theirs] == [("19.53K", "201"), ("2.93K", "32")], theirs
    print("  analyze of two connections of the same hosts: the package's analyzer joins the flows of different ports", flush=True)
    # What the package's own collector writes of v5, its analyzer cannot read; ours can.
    import netflow as library

    own = os.path.join(folder, "own_v5.gz")
    with gzip.open(own, "wt") as f:
        for i, (_, _, _, _, data) in enumerate(reference.datagrams(os.path.join(FIXTURES, "demo/softflowd_v5.pcap"))):
            packet = library.parse_packet(data, {})
            entry = {"client": ["127.0.0.1", 1], "header": packet.header.to_dict(), "flows": [flow.data for flow in packet.flows]}
            f.write(json.dumps({f"{1_700_000_000 + i}.5": entry}) + "\n")
    theirs, run = rows([sys.executable, "-m", "netflow.analyzer", "-n", "-p", "1", "-f", own], wrong=True)
    assert not theirs and "KeyError" in run.stderr, run.stderr
    ours, _ = rows([flowlane, "analyze", "-n", "-p", "1", "-f", own])
    same("analyze, v5 of the package's collector", len(ours), len(connections(own)))
    print(f"  analyze v5 of the package's own collector: {len(ours)} connections; its analyzer fails on it (KeyError)", flush=True)


def main():
    flowlane = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="flowlane-analyzer-") as folder:
        check_all(flowlane, folder)


if __name__ == "__main__":
    main()
