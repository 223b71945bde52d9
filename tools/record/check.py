#!/usr/bin/env python3
"""Holds a decoder's records of every fixture against the expected ones, byte for byte.

    check.py -- target/release/flowlane decode --format records
    check.py --tshark                 holds the expected records themselves against Wireshark's dissector

The command gets a capture as its last argument and prints the lines that reference.py describes. Records must be all there,
none beside them, in wire order (late ones anywhere). Exit 0 when all fixtures hold; the last line counts them.
"""
import argparse
import csv
import gzip
import ipaddress
import json
import os
import subprocess
import sys

import reference

KEYS = ("pkt", "set", "off", "len", "ip", "ver", "dom", "tid", "kind", "nscope", "late", "fields")
# Wireshark's field and the elements that it shows there.
SHOWN = {"cflow.octets": {1}, "cflow.packets": {2}, "cflow.protocol": {4}, "cflow.srcport": {7}, "cflow.dstport": {11},
         "cflow.srcaddr": {8}, "cflow.dstaddr": {12}, "cflow.srcaddrv6": {27}, "cflow.dstaddrv6": {28}}


def plain(record):
    return {k: bool(record.get(k)) if k == "late" else record[k] for k in KEYS}


def faults_of(command, path, want):
    try:
        run = subprocess.run([*command, path], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "no end after 60 s"
    if run.returncode:
        return f"exit {run.returncode}: {run.stderr.decode(errors='replace').strip()[-300:]}"
    try:
        got = [plain(json.loads(line)) for line in run.stdout.splitlines() if line.strip()]
    except (KeyError, ValueError) as e:
        return f"a line without or not {e}"
    want = [plain(r) for r in want]
    for late in (False, True):
        a, b = ([r for r in records if r["late"] == late] for records in (want, got))
        if late:
            a, b = (sorted(x, key=lambda r: (r["pkt"], r["set"], r["off"])) for x in (a, b))
        for x, y in zip(a, b):
            if x != y:
                key = next(k for k in KEYS if x[k] != y[k])
                return f"packet {x['pkt']} offset {x['off']}: {key} {y[key]} for {x[key]}"
        if len(a) != len(b):
            return f"{len(b)} {'late ' * late}records for {len(a)}"
    return None


def value(element, text):
    raw = bytes.fromhex(text)
    return str(ipaddress.ip_address(raw)) if element in (8, 12, 27, 28) else str(int.from_bytes(raw, "big"))


def faults_of_tshark(path, want):
    """Values of the commonest elements, in wire order, frame by frame."""
    argv = ["tshark", "-2", "-r", path, "-d", "udp.port==2055,cflow", "-T", "fields", "-E", "occurrence=a", "-e", "frame.number"]
    for name in SHOWN:
        argv += ["-e", name]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines():
        number, *columns = line.split("\t")
        records = [r for r in want if r["pkt"] == int(number) and r["kind"] == "data"]
        for (name, elements), column in zip(SHOWN.items(), columns):
            expected = [value(f[1], f[3]) for r in records for f in r["fields"] if f[0] in (0, 29305) and f[1] in elements and f[2] > 0]
            got = [x for x in column.split(",") if x]
            # Wireshark stops at a v9 header's count, which softflowd makes too small where it sends options.
            short = bool(got) and records[0]["ver"] == 9 and len(got) < len(expected)
            if got != (expected[:len(got)] if short else expected):
                return f"packet {number} {name}: {got[:6]} for {expected[:6]} ({len(got)}, {len(expected)})"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "fixtures"))
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--tshark", action="store_true")
    parser.add_argument("command", nargs="*")
    a = parser.parse_args()
    if a.tshark == bool(a.command):
        parser.error("give --tshark or a command after --")
    with open(os.path.join(a.folder, "MANIFEST.csv")) as f:
        rows = [r for r in csv.DictReader(f) if a.only in r["file"]]
    held = total = 0
    for row in rows:
        path = os.path.normpath(os.path.join(a.folder, row["file"]))
        with gzip.open(path[:-5] + ".records.jsonl.gz", "rt") as f:
            want = [json.loads(line) for line in f]
        if want != reference.read(path).records:
            fault = "the expected records are not what reference.py reads"
        else:
            fault = faults_of_tshark(path, want) if a.tshark else faults_of(a.command, path, want)
        total += len(want)
        held += not fault
        if fault:
            print(f"{row['file']}: {fault}")
    print(f"{held} of {len(rows)} fixtures hold ({total} records)")
    return 0 if rows and held == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
