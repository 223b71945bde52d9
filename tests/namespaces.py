#!/usr/bin/env python3
"""Many exporters, and a link that loses, between two network namespaces.

    tests/namespaces.py target/release/flowlane

- 60 IPv4 and 60 IPv6 exporters send their templates from one port and their data from three others: each is heard by one receiving
  thread, and no set stays undecoded.
- One exporter of 16 observation domains is spread over the threads (`--spread`), and none beside it.
- Over a link that loses packets (tc netem where the kernel has it, else a queue that is too short), IPFIX over TCP loses no record;
  over UDP what came and what sequence numbers miss is all that was sent.

Needs root, and ip and tc (iproute2). Everything is bounded in time; nothing leaves the namespaces.
"""
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

NAMES = [f"flowlane-{os.getpid()}-{end}" for end in "ab"]
V4, V6 = "10.99.0.1", "fd99::1"
MANY = [f"10.99.1.{i}" for i in range(1, 61)] + [f"fd99::1:{i}" for i in range(1, 61)]
BIG = "10.99.2.1"
PORT, TCP = 2055, 4739
THREADS = 4
FIELDS = [(8, 4), (12, 4), (2, 4), (1, 4)]
LOSSY = 4000  # messages over the lossy link


def message(version, sequence, sets, domain=7):
    body = b"".join(struct.pack("!HH", i, len(b) + 4) + b for i, b in sets)
    if version == 9:
        return struct.pack("!HHIIII", 9, len(sets), 1000, int(time.time()), sequence, domain) + body
    return struct.pack("!HHIII", 10, 16 + len(body), int(time.time()), sequence, domain) + body


def template(version):
    return 2 if version == 10 else 0, struct.pack("!HH", 256, len(FIELDS)) + b"".join(struct.pack("!HH", *f) for f in FIELDS)


def data(records):
    return 256, bytes(sum(length for _, length in FIELDS) * records)


def sender(source):
    s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 0))
    s.connect((V6 if ":" in source else V4, PORT))
    return s


# What the second namespace runs.

def many():
    """Data first and from three ports, then the template from a fourth, then more of each."""
    for round in range(2):
        for source in MANY:
            for port in range(3):
                sender(source).send(message(10, round * 10, [data(5)]))
            sender(source).send(message(10, round * 10, [template(10)]))
        time.sleep(0.3)


def big():
    """Sixteen domains of one exporter, four ports each; and an exporter beside it that is not spread."""
    for source in (BIG, MANY[0]):
        for domain in range(16):
            for port in range(4):
                s = sender(source)
                s.send(message(9, 0, [template(9)], domain))
                s.send(message(9, 1, [data(5)], domain))
        time.sleep(0.1)


def lossy():
    with sender(BIG) as udp:
        for i in range(LOSSY):
            udp.send(message(9, i, [template(9) if i < 20 else data(40)]))
            time.sleep(0.0005)
    time.sleep(0.5)
    with socket.create_connection((V4, TCP), 30, (MANY[0], 0)) as tcp:
        tcp.sendall(message(10, 0, [template(10)]))
        for i in range(LOSSY):
            tcp.sendall(message(10, i * 40, [data(40)]))


EXPORTS = {"many": many, "big": big, "lossy": lossy}


# What the first one sees.

def run(*argv, **more):
    return subprocess.run(argv, check=True, stdin=more.pop("stdin", subprocess.DEVNULL), capture_output=True, text=True, timeout=120, **more)


@contextlib.contextmanager
def namespaces():
    made = []
    try:
        for name in NAMES:
            run("ip", "netns", "add", name)
            made.append(name)
        run("ip", "link", "add", "va", "netns", NAMES[0], "type", "veth", "peer", "name", "vb", "netns", NAMES[1])
        for name, link, addresses in ((NAMES[0], "va", [V4, V6]), (NAMES[1], "vb", [*MANY, BIG])):
            for address in addresses:
                more = ["/64", "nodad"] if ":" in address else ["/16"]
                run("ip", "-n", name, "address", "add", address + more[0], "dev", link, *more[1:])
            for one in (link, "lo"):
                run("ip", "-n", name, "link", "set", one, "up")
        yield
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], timeout=60)


def collect(flowlane, export, done, *more):
    """The ledger of a collector after what the other namespace sent, as soon as `done` says that it is all there."""
    with tempfile.TemporaryFile("w+") as log:
        argv = ["ip", "netns", "exec", NAMES[0], flowlane, "collect", "--format", "none", "--threads", str(THREADS), "--tcp", str(TCP), "--http", "8080"]
        process = subprocess.Popen([*argv, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            ask = ["ip", "netns", "exec", NAMES[0], flowlane, "status", "--json"]
            while True:
                with contextlib.suppress(subprocess.CalledProcessError):
                    run(*ask)
                    break
                assert process.poll() is None and time.monotonic() < end, (log.seek(0), log.read())[1]
                time.sleep(0.1)
            run("ip", "netns", "exec", NAMES[1], sys.executable, "-B", os.path.abspath(__file__), "--export", export)
            while True:
                ledger = json.loads(run(*ask).stdout)
                if done(ledger) or time.monotonic() > end:
                    return ledger
                time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            finally:
                process.kill()


def same(what, got, want):
    assert got == want, f"{what}: {got}, expected {want}"


def steering(flowlane):
    records = len(MANY) * 3 * 5 * 2
    ledger = collect(flowlane, "many", lambda l: l["total"]["rows"]["decoded"] >= records)
    same("records", ledger["total"]["rows"]["decoded"], records)
    same("sets that stay undecoded", ledger["total"]["held_sets"]["still_held"], 0)
    same("exporters", {e["exporter"] for e in ledger["exporters"]}, set(MANY))
    for e in ledger["exporters"]:
        same(f"records of {e['exporter']}", e["rows"]["decoded"], 30)
        same(f"threads that hear {e['exporter']}", len(e["threads"]), 1)
    for family in (".", ":"):
        used = {t for e in ledger["exporters"] if family in e["exporter"] for t in e["threads"]}
        same(f"threads with exporters of {family}", used, set(range(THREADS)))
    print(f"  {len(MANY)} exporters, each at one of {THREADS} threads: {records} records", flush=True)


def spread(flowlane):
    records = 2 * 16 * 4 * 5
    ledger = collect(flowlane, "big", lambda l: l["total"]["rows"]["decoded"] >= records, "--spread", BIG)
    threads = {e["exporter"]: e["threads"] for e in ledger["exporters"]}
    same("records", ledger["total"]["rows"]["decoded"], records)
    same("sets that stay undecoded", ledger["total"]["held_sets"]["still_held"], 0)
    same("threads of the exporter that is spread", threads[BIG], list(range(THREADS)))
    same("threads of the other", len(threads[MANY[0]]), 1)
    print(f"  {BIG} spread over {THREADS} threads by domain, {MANY[0]} at one", flush=True)


def loss(flowlane):
    link = ["dev", "vb", "root"]
    try:
        run("ip", "netns", "exec", NAMES[1], "tc", "qdisc", "add", *link, "netem", "loss", "5%")
        how = "netem, 5%"
    except subprocess.CalledProcessError:
        # A queue of a few packets, drained more slowly than bursts fill it.
        run("ip", "netns", "exec", NAMES[1], "tc", "qdisc", "add", *link, "tbf", "rate", "8mbit", "burst", "3000", "limit", "6000")
        how = "a short queue"
    try:
        want = LOSSY * 40
        ledger = collect(flowlane, "lossy", lambda l: l["exporters"] and l["total"]["connections"]["closed"] == 1)
    finally:
        run("ip", "netns", "exec", NAMES[1], "tc", "qdisc", "del", *link)
    udp, tcp = ({e["exporter"]: e for e in ledger["exporters"]}[source] for source in (BIG, MANY[0]))
    received, lost = udp["datagrams"]["received"], udp["sequence"]["lost"]
    same("records over TCP", (tcp["rows"]["decoded"], tcp["sequence"]["lost"], tcp["datagrams"]["received"]), (want, 0, LOSSY + 1))
    same("connections that broke", ledger["total"]["connections"]["failed"], 0)
    assert lost > 20, f"nothing was lost: {lost}"
    # What is missing at the very end no later number shows.
    assert received + lost <= LOSSY <= received + lost + 50, f"{received} came, {lost} are missing, {LOSSY} were sent"
    print(f"  over a link that loses ({how}): UDP {lost} of {LOSSY} messages missing, and counted; TCP {want} records, all there", flush=True)


def main():
    if sys.argv[1:2] == ["--export"]:
        return EXPORTS[sys.argv[2]]()
    flowlane = os.path.abspath(sys.argv[1])
    with namespaces():
        steering(flowlane)
        spread(flowlane)
        loss(flowlane)


if __name__ == "__main__":
    main()
