#!/usr/bin/env python3
"""Other engines over the files that two collectors wrote, by the views that `flowlane views` prints.

    tests/engines.py target/release/flowlane target/release/flowgen [--engines duckdb,chdb,spark] [--flows N] [--times]

Two collectors (`--node a`, `--node b`) write into one folder; each engine then reads its view. Its top-N by bytes equals
that of `flowlane top`, every address has the same text, times and 64-bit columns are what they are. `flowlane export`
of the folder holds the same rows. `--times` prints how long the same question takes each of them.

Needs duckdb (pip install duckdb), for the others chdb and pyspark (with Java). Every step is bounded in time; loopback only.
"""
import argparse
import calendar
import csv
import io
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = ("SELECT src_addr, sum(flows), sum(packets), sum(bytes) AS b FROM flows WHERE NOT counters_are_total "
       "GROUP BY src_addr ORDER BY b DESC, src_addr LIMIT 20")
TOTAL = "SELECT count(*), sum(bytes), sum(packets) FROM flows"
ADDRESSES = "SELECT DISTINCT src_addr FROM flows"
TIMES = "SELECT min({us}(time_received)), max({us}(time_received)) FROM flows"
# RFC 5952: the longest run of zeros, the first of equals, never a single group; IPv4-mapped ones with dots.
HARD = ["::", "::1", "1::", "2001:db8::1", "2001:db8:0:1:1:1:1:1", "2001:0:0:1:0:0:0:1", "2001:db8:0:0:1:0:0:1",
        "1:0:0:0:0:0:0:1", "0:1:0:1:0:1:0:1", "fe80::", "::ffff:203.0.113.24", "a:b:c:d:e:f:0:0", "0:0:a:b:c:d:e:f",
        "10:100:1000:1:20:200:2000:2", "::1:0:0:0:1", "1:0:0:2::"]


def run(argv, **options):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-500:]}{done.stderr[-2000:]}"
    return done.stdout


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write(flowlane, flowgen, folder, flows):
    """A folder of two collectors: v5 to the one, IPFIX of IPv6 and of IPv4 to the other."""
    sent = []
    for node, kinds in [("a", ["--protocol", "v5"]), ("b", ["--protocol", "ipfix", "--template", "ipv6,basic14"])]:
        port = free_port()
        collector = subprocess.Popen([flowlane, "collect", "--listen", f"127.0.0.1:{port}", "--out", folder, "--node", node],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(2)
            count = str(flows // 2 // 20)
            out = run([flowgen, "--to", f"127.0.0.1:{port}", *kinds, "--records", "20", "--distinct", count, "-n", count,
                       "--seed", "7" if node == "a" else "8", "--rate", "100k", "--json"])
            sent.append(json.loads(out))
            time.sleep(2)
        finally:
            collector.send_signal(signal.SIGINT)
            try:
                collector.wait(60)
            except subprocess.TimeoutExpired:
                collector.kill()
        assert collector.returncode == 0, collector.stderr.read()[-2000:]
    return sum(one["records"] for one in sent)


def lines(text):
    return list(csv.DictReader(io.StringIO(text)))


def ours(flowlane, folder):
    rows = lines(run([flowlane, "top", "src_addr", "-n", "20", "--in", folder, "--format", "csv"]))
    rows = [(r["src_addr"], int(r["flows"]), int(r["packets"]), int(r["bytes"])) for r in rows]
    total = rows[-1]
    assert total[0] == "(total)", total
    top = [r for r in rows if not r[0].startswith("(")]
    told = lines(run([flowlane, "flows", "--limit", "0", "--fields", "src_addr", "--in", folder, "--format", "csv"]))
    about = json.loads(run([flowlane, "info", "--json", folder]))
    return {"top": sorted(top, key=lambda r: (-r[3], r[0])), "rows": about["rows"], "total": total,
            "addresses": {r["src_addr"] for r in told}, "about": about}


def views(flowlane, engine, path):
    return run([flowlane, "views", "--engine", engine, path])


def micros(text):
    whole, _, part = text.rstrip("Z").partition(".")
    seconds = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(seconds) * 1_000_000 + int(part.ljust(6, "0")[:6] or 0)


def check(name, want, ask, micro, types):
    """The same answers by `ask`, a function from SQL to rows."""
    top = [(r[0], int(r[1]), int(r[2]), int(r[3])) for r in ask(TOP)]
    assert top == want["top"], f"{name}: {top[:3]}, ours {want['top'][:3]}"
    rows, octets, packets = (int(v) for v in ask(TOTAL)[0])
    assert (rows, octets, packets) == (want["rows"], want["total"][3], want["total"][2]), (name, rows, octets, packets)
    found = {r[0] for r in ask(ADDRESSES)}
    assert found == want["addresses"], f"{name}: {sorted(found ^ want['addresses'])[:5]}"
    first, last = (int(v) for v in ask(TIMES.format(us=micro))[0])
    told = (micros(want["about"]["first_received"]), micros(want["about"]["last_received"]))
    assert (first, last) == told, (name, first, last, told)
    kinds = types("bytes"), types("time_received")
    print(f"  {name}: {rows} rows of {len(found)} sources; bytes is {kinds[0]}, time_received {kinds[1]}", flush=True)
    return kinds


def duckdb_(flowlane, folder, want):
    import duckdb
    c = duckdb.connect()
    c.execute("SET TimeZone = 'UTC'")
    c.execute(views(flowlane, "duckdb", folder))
    for text in HARD:
        octets = ipaddress.ip_address(text).packed.hex()
        found = c.execute(f"SELECT flowlane_ip6(from_hex('{octets}'))").fetchone()[0]
        wanted = text if text.startswith("::ffff:") else str(ipaddress.ip_address(text))
        assert found == wanted, f"{text}: {found}"
    ask = lambda sql: c.execute(sql).fetchall()
    kinds = check("DuckDB", want, ask, "epoch_us", lambda column: str(ask(f"SELECT typeof({column}) FROM flows LIMIT 1")[0][0]))
    assert kinds == ("BIGINT", "TIMESTAMP WITH TIME ZONE"), kinds
    return ask


def chdb_(flowlane, folder, want):
    from chdb import session
    s = session.Session()
    s.query(views(flowlane, "clickhouse", folder))
    ask = lambda sql: [tuple(json.loads(line)) for line in str(s.query(sql, "JSONCompactEachRow")).splitlines()]
    kinds = check("ClickHouse", want, ask, "toUnixTimestamp64Micro",
                  lambda column: ask(f"SELECT toTypeName({column}) FROM flows LIMIT 1")[0][0])
    assert kinds[0] in ("Int64", "Nullable(Int64)") and "DateTime64(6, 'UTC')" in kinds[1], kinds
    return ask


def spark_(flowlane, folder, want):
    from pyspark.sql import SparkSession
    spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
             .config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "4").getOrCreate())
    spark.sparkContext.setLogLevel("ERROR")
    for statement in views(flowlane, "spark", folder).split(";\n"):
        if statement.strip():
            spark.sql(statement)
    for text in HARD:
        octets = ipaddress.ip_address(text).packed.hex()
        found = spark.sql(f"SELECT flowlane_ip6(unhex('{octets}'))").collect()[0][0]
        wanted = text if text.startswith("::ffff:") else str(ipaddress.ip_address(text))
        assert found == wanted, f"{text}: {found}"
    ask = lambda sql: [tuple(r) for r in spark.sql(sql).collect()]
    kinds = check("Spark", want, ask, "unix_micros",
                  lambda column: dict(spark.sql(f"SELECT {column} FROM flows").dtypes)[column])
    assert kinds == ("bigint", "timestamp"), kinds
    return ask


def export(flowlane, folder, want, scratch):
    """A rewritten selection holds the same rows, in every form."""
    path = os.path.join(scratch, "part.parquet")
    run([flowlane, "export", "--in", folder, "--out", path, "proto", "tcp"])
    asked = run([flowlane, "top", "src_addr", "-n", "9", "--in", folder, "--format", "csv", "proto", "tcp"])
    again = run([flowlane, "top", "src_addr", "-n", "9", "--in", path, "--format", "csv"])
    assert asked == again, f"{asked}\n{again}"
    for form in ["csv", "ndjson", "table"]:
        text = run([flowlane, "export", "--in", folder, "--format", form]).splitlines()
        header = 0 if form == "ndjson" else 1
        assert len(text) - header == want["rows"], (form, len(text), want["rows"])
    key = "0x" + bytes(range(32)).hex()
    shared = os.path.join(scratch, "shared.parquet")
    run([flowlane, "export", "--in", folder, "--out", shared, "--anonymise", key])
    same = run([flowlane, "top", "src_addr", "-n", "9", "--in", folder, "--format", "csv", "--anonymise", key])
    told = run([flowlane, "top", "src_addr", "-n", "9", "--in", shared, "--format", "csv"])
    sums = lambda text: [line.split(",", 1)[1] for line in text.splitlines()]
    assert sums(same) == sums(told), f"{same}\n{told}"
    assert set(same.splitlines()) == set(told.splitlines()), f"{same}\n{told}"
    assert not {r[0] for r in want["top"]} & {line.split(",")[0] for line in told.splitlines()}, "addresses as they were"
    print(f"  export: {want['rows']} rows as CSV, NDJSON and lines, again as Parquet, and with other addresses", flush=True)


ENGINES = {"duckdb": duckdb_, "chdb": chdb_, "spark": spark_}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowlane")
    parser.add_argument("flowgen")
    parser.add_argument("--engines", default="duckdb")
    parser.add_argument("--flows", type=int, default=40_000)
    parser.add_argument("--times", action="store_true")
    a = parser.parse_args()
    flowlane, flowgen = os.path.abspath(a.flowlane), os.path.abspath(a.flowgen)
    with tempfile.TemporaryDirectory(prefix="flowlane-engines-") as scratch:
        folder = os.path.join(scratch, "flows")
        records = write(flowlane, flowgen, folder, a.flows)
        want = ours(flowlane, folder)
        assert want["rows"] == records, (want["rows"], records)
        asks = {}
        for name in a.engines.split(","):
            asks[name] = ENGINES[name](flowlane, folder, want)
        export(flowlane, folder, want, scratch)
        if a.times:
            asks["flowlane"] = lambda _: run([flowlane, "top", "src_addr", "-n", "20", "--in", folder, "--format", "csv"])
            for name, ask in asks.items():
                took = []
                for _ in range(3):
                    began = time.perf_counter()
                    ask(TOP)
                    took.append(time.perf_counter() - began)
                print(f"  {name}: top 20 by bytes of {want['rows']} flows in {min(took):.3f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
