#!/usr/bin/env python3
"""Reads what `flowlane collect` keeps by another engine, DuckDB, value by value; its page index and statistics prune.

    tests/kept.py target/release/flowlane        needs the package duckdb
"""

import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb

BOOT = 1_700_000_000  # seconds; the uptime of every message is counted from here
V5 = ["src_ip4", "dst_ip4", "next_hop4", "in_if", "out_if", "packets", "bytes", "start", "end", "src_port", "dst_port",
      "tcp_flags", "proto", "tos", "src_as", "dst_as", "src_mask", "dst_mask"]


def v5(sequence, rng):
    """A message, and what its rows must be."""
    uptime = 3_600_000 + sequence
    rows, records = [], b""
    for _ in range(30):
        start, end = uptime - rng.randrange(1, 60_000), uptime - rng.randrange(1000)
        u32, u16, u8 = (lambda: rng.getrandbits(32)), (lambda: rng.getrandbits(16)), (lambda: rng.getrandbits(8))
        row = [u32(), u32(), rng.choice([0, u32()]), rng.randrange(40), u16(), u32(), u32(), start, end, u16(), u16(),
               u8(), 6, u8(), rng.randrange(65_536), u16(), u8(), u8()]
        s = dict(zip(V5, row))
        records += struct.pack(">IIIHHIIIIHHBBBBHHBBH", s["src_ip4"], s["dst_ip4"], s["next_hop4"], s["in_if"], s["out_if"],
                               s["packets"], s["bytes"], start, end, s["src_port"], s["dst_port"], 0, s["tcp_flags"],
                               s["proto"], s["tos"], s["src_as"], s["dst_as"], s["src_mask"], s["dst_mask"], 0)
        rows.append(tuple(row) + (sequence,))
    seconds, ms = divmod(uptime, 1000)
    return struct.pack(">HHIIIIBBH", 5, 30, uptime, BOOT + seconds, ms * 1_000_000, sequence, 1, 2, 0) + records, rows


TEMPLATE = [(8, 4), (12, 4), (27, 16), (28, 16), (56, 6), (1, 8), (2, 8), (7, 2), (11, 2), (4, 1), (82, 12), (999, 8)]


def ipfix(sequence, rng):
    """The same of IPFIX: addresses of both families, 64-bit counters, text, an element that nobody knows."""
    fields = b"".join(struct.pack(">HH", *field) for field in TEMPLATE)
    template = struct.pack(">HHHH", 2, 8 + len(fields), 300, len(TEMPLATE)) + fields
    rows, records = [], b""
    for _ in range(12):
        is6 = rng.random() < 0.5
        v4 = [0, 0] if is6 else [rng.getrandbits(32), rng.getrandbits(32)]
        v6 = [rng.randbytes(16), rng.randbytes(16)] if is6 else [bytes(16), bytes(16)]
        mac, octets, packets = rng.randbytes(6), rng.getrandbits(60), rng.getrandbits(rng.randrange(1, 40))
        ports, proto, name, extra = [rng.getrandbits(16), rng.getrandbits(16)], 17, f"if{rng.randrange(9)}", rng.randbytes(8)
        records += struct.pack(">II16s16s6sQQHHB12s8s", *v4, *v6, mac, octets, packets, *ports, proto, name.encode(), extra)
        rows.append((None if is6 else v4[0], None if is6 else v4[1], v6[0] if is6 else None, v6[1] if is6 else None, mac,
                     octets, packets, *ports, proto, name, extra, sequence))
    data = struct.pack(">HH", 300, 4 + len(records)) + records
    return struct.pack(">HHIII", 10, 16 + len(template + data), BOOT, sequence, 7) + template + data, rows


def collect(program, folder, messages):
    """Sends messages to a collector that keeps them in a folder."""
    run = subprocess.Popen([program, "collect", "--listen", "127.0.0.1:0", "--out", folder, "--threads", "1", "--node", "a"],
                           stderr=subprocess.PIPE, text=True)
    line = next(line for line in run.stderr if "listening on 127.0.0.1:" in line)
    port = int(line.split("127.0.0.1:")[1].split()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i, message in enumerate(messages):
            sender.sendto(message, ("127.0.0.1", port))
            if i % 50 == 0:
                time.sleep(0.01)
    time.sleep(1.5)
    run.send_signal(signal.SIGINT)
    run.stderr.read()
    assert run.wait(60) == 0


def check(found, expected, what):
    found, expected = sorted(found, key=repr), sorted(expected, key=repr)
    for a, b in zip(found, expected):
        assert a == b, f"{what}: {a} is there, {b} was sent"
    assert len(found) == len(expected), f"{what}: {len(found)} rows of {len(expected)}"
    print(f"{what}: {len(found)} rows, every value as it was sent")


def main():
    program, rng = sys.argv[1], random.Random(5)
    sent5, sent10 = [v5(i, rng) for i in range(1500)], [ipfix(i, rng) for i in range(400)]
    with tempfile.TemporaryDirectory() as folder:
        both = [sent5[i // 2][0] if i % 2 else sent10[i // 2][0] for i in range(800)]
        collect(program, folder, both + [message for message, _ in sent5[400:]])
        files = f"{folder}/date=*/hour=*/*.parquet"
        db = duckdb.connect()
        db.execute("set timezone = 'UTC'")
        db.execute(f"create view flows as select * from read_parquet('{files}', hive_partitioning = true)")
        zero = datetime(1970, 1, 1, tzinfo=timezone.utc)
        boot = zero + timedelta(seconds=BOOT)
        columns = ", ".join({"start": f"epoch_ms(flow_start) - {BOOT}000", "end": f"epoch_ms(flow_end) - {BOOT}000"}.get(c, c)
                            for c in V5)
        rows = db.execute(f"select {columns}, sequence from flows where version = 5").fetchall()
        # A next hop of 0 is a value.
        check(rows, [row for _, rows in sent5 for row in rows], "v5")
        names = ("src_ip4, dst_ip4, src_ip6, dst_ip6, src_mac, bytes, packets, src_port, dst_port, proto, in_if_name, "
                 "x_999, sequence")
        check(db.execute(f"select {names} from flows where version = 10").fetchall(),
              [row for _, rows in sent10 for row in rows], "IPFIX")
        one = db.execute("""select distinct exporter, exporter_port > 0, domain_id, template_id, flows, counters_are_total,
            time_source, sampling_rate, export_time from flows where version = 5 and sequence = 7""").fetchall()
        expected = boot + timedelta(milliseconds=3_600_007)
        assert one == [("127.0.0.1", True, 258, 0, 1, False, 1, None, expected)], one
        # What a question does not need is not read: the statistics say so.
        for value in (sent5[700][1][3], sent5[1499][1][0]):
            found = db.execute("select count(*) from flows where src_ip4 = ? and bytes = ?", [value[0], value[6]]).fetchone()
            assert found == (sum(r[0] == value[0] and r[6] == value[6] for _, rows in sent5 for r in rows),), found
        most = db.execute(f"""select max(stats_max_value::bigint) from parquet_metadata('{files}')
            where path_in_schema = 'sequence'""").fetchone()
        assert most == (1499,), most
        kept = sum(f.stat().st_size for f in Path(folder).glob("date=*/hour=*/*.parquet"))
        print(f"{kept / (1500 * 30 + 400 * 12):.1f} bytes a flow of random numbers")


if __name__ == "__main__":
    main()
