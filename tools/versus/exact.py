#!/usr/bin/env python3
"""Holds what collectors read from the recordings in fixtures/ against what flowlane reads, flow by flow and field by field.

    exact.py                          every recording through every collector that is here; Markdown
    exact.py capture.pcap folder      other recordings: files, and all below folders
    exact.py --only bidirectional     recordings whose name holds the text
    exact.py --peer tshark,nfdump

nfcapd, nfacctd, goflow2 and Python's netflow get the recording's datagrams from flowgen over loopback, tshark reads the file. Flows are paired
by addresses, ports and protocol. A field that a collector does not print is not compared. nfacctd adds up flows that are alike in all that is
compared but packets and bytes. `VERSUS_PYTHON` names an interpreter that
has `netflow`. What is missing is named with the command that gets it. README.md says of each difference who is right, and by which RFC.
"""
import argparse
import collections
import csv
import datetime
import glob
import gzip
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
PROGRAMS = os.path.join(ROOT, "target", "release")
KEY = ("src", "dst", "sport", "dport", "proto")
COMPARED = ("packets", "bytes", "start_ms", "end_ms", "tcp_flags", "in_if", "out_if")
PROTOCOLS = {"HOPOPT": 0, "IPv6-Frag": 44, "ICMP": 1, "IGMP": 2, "IPv4": 4, "TCP": 6, "UDP": 17, "IPv6": 41, "IPv6-ICMP": 58, "ICMPv6": 58,
             "GRE": 47, "ESP": 50, "OSPF": 89, "PIM": 103, "VRRP": 112, "SCTP": 132}


def number(value):
    if value in (None, ""):
        return None
    return int(str(value), 16) if str(value).startswith("0x") else int(value)


def address(value):
    if value in (None, ""):
        return None
    return str(ipaddress.ip_address(value))


def iso_ms(text):
    if not text:
        return None
    text = text.rstrip("Z")
    seconds = datetime.datetime.fromisoformat(text.split(".")[0]).replace(tzinfo=datetime.timezone.utc).timestamp()
    return int(seconds) * 1000 + int((text.split(".") + ["0"])[1][:3].ljust(3, "0"))


def flowlane(path):
    command = [os.path.join(PROGRAMS, "flowlane"), "decode", "--format", "ndjson", path]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=60)
    for line in run.stdout.splitlines():
        f = json.loads(line)
        yield {"src": f.get("src_addr"), "dst": f.get("dst_addr"), "sport": f.get("src_port"), "dport": f.get("dst_port"),
               "proto": f.get("proto"), "packets": f.get("packets"), "bytes": f.get("bytes"), "start_ms": iso_ms(f.get("flow_start")),
               "end_ms": iso_ms(f.get("flow_end")), "tcp_flags": f.get("tcp_flags"), "in_if": f.get("in_if"), "out_if": f.get("out_if")}


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def collected(path, command, stop, folder, config=""):
    """Starts a collector, sends it the recording, and ends it. A configuration goes where the command's last word says."""
    port = free_port()
    if config:
        with open(command[-1], "w") as file:
            file.write(config.replace("PORT", str(port)).replace("FOLDER", folder))
    command = [part.replace("PORT", str(port)) for part in command]
    child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TZ": "UTC"})
    try:
        listening, end = f":{port:04X} ", time.monotonic() + 20
        while not any(listening in open(f).read() for f in ("/proc/net/udp", "/proc/net/udp6")):
            if child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not listen")
            time.sleep(0.02)
        time.sleep(0.3)
        # Slowly: a collector that hands datagrams to several threads would meet data before its template.
        subprocess.run([os.path.join(PROGRAMS, "flowgen"), "--to", f"127.0.0.1:{port}", "--replay", path,
                        "--datagrams-per-second", "200", "--burst", "1"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=120)
        time.sleep(0.7)
        child.send_signal(stop)
        child.wait(timeout=20)
    finally:
        child.kill()
        child.wait()


def nfdump(path, folder):
    kept = os.path.join(folder, "kept")
    os.mkdir(kept)
    collected(path, ["nfcapd", "-b", "127.0.0.1", "-p", "PORT", "-w", kept], signal.SIGTERM, folder)
    run = subprocess.run(["nfdump", "-R", kept, "-q", "-o", "json"], stdout=subprocess.PIPE, check=True, timeout=60,
                         env={**os.environ, "TZ": "UTC"})
    # It prints no array where there is no flow, and a comma after the last one in some versions.
    text = run.stdout.decode().strip().strip("[],\n\t ")
    for f in json.loads(f"[{text}]") if text.startswith("{") else []:
        flags = f.get("tcp_flags")
        if isinstance(flags, str):
            flags = sum(1 << bit for bit, letter in enumerate(reversed(flags)) if letter != ".")
        yield {"src": address(f.get("src4_addr") or f.get("src6_addr")), "dst": address(f.get("dst4_addr") or f.get("dst6_addr")),
               "sport": f.get("src_port"), "dport": f.get("dst_port"), "proto": f.get("proto"), "packets": f.get("in_packets"),
               "bytes": f.get("in_bytes"), "start_ms": iso_ms(f.get("first")), "end_ms": iso_ms(f.get("last")), "tcp_flags": flags,
               "in_if": f.get("input_snmp"), "out_if": f.get("output_snmp")}


NFACCTD = """daemonize: false
nfacctd_ip: 127.0.0.1
nfacctd_port: PORT
nfacctd_time_new: true
plugins: print[p]
aggregate[p]: src_host, dst_host, src_port, dst_port, proto, tcpflags, in_iface, out_iface, timestamp_start, timestamp_end, flows
print_output[p]: csv
print_output_file[p]: FOLDER/flows.csv
print_output_file_append[p]: true
print_refresh_time[p]: 300
print_num_protos[p]: true
"""


def nfacctd(path, folder):
    program = shutil.which("nfacctd") or "/usr/sbin/nfacctd"
    collected(path, [program, "-f", os.path.join(folder, "nfacctd.conf")], signal.SIGINT, folder, NFACCTD)
    out, stamp = os.path.join(folder, "flows.csv"), lambda text: None if text.startswith("0000") else iso_ms(text.replace(" ", "T"))
    if not os.path.exists(out):
        return
    with open(out) as lines:
        for f in csv.DictReader(lines):
            if f["FLOWS"] == "FLOWS":
                continue  # the head, once more
            yield {"src": address(f["SRC_IP"]), "dst": address(f["DST_IP"]), "sport": number(f["SRC_PORT"]), "dport": number(f["DST_PORT"]),
                   "proto": number(f["PROTOCOL"]), "packets": number(f["PACKETS"]), "bytes": number(f["BYTES"]),
                   "start_ms": stamp(f["TIMESTAMP_START"]), "end_ms": stamp(f["TIMESTAMP_END"]), "tcp_flags": number(f["TCP_FLAGS"]),
                   "in_if": number(f["IN_IFACE"]), "out_if": number(f["OUT_IFACE"])}


def goflow2(path, folder):
    out = os.path.join(folder, "flows.json")
    program = shutil.which("goflow2") or os.path.expanduser("~/go/bin/goflow2")
    collected(path, [program, "-listen", "netflow://127.0.0.1:PORT", "-addr", "127.0.0.1:0", "-loglevel", "error", "-format", "json",
                     "-transport", "file", "-transport.file", out], signal.SIGTERM, folder)
    with open(out) as file:
        text, at, decoder = file.read(), 0, json.JSONDecoder()
        # Its threads sometimes write two objects before they write the two ends of lines.
        while at < len(text):
            f, at = decoder.raw_decode(text, at)
            at += len(text[at:at + 8]) - len(text[at:at + 8].lstrip())
            proto = f.get("proto")
            proto = PROTOCOLS.get(proto, proto) if not str(proto).isdigit() else int(proto)
            yield {"src": address(f.get("src_addr")), "dst": address(f.get("dst_addr")), "sport": f.get("src_port"),
                   "dport": f.get("dst_port"), "proto": proto, "packets": f.get("packets"), "bytes": f.get("bytes"),
                   "start_ms": f["time_flow_start_ns"] // 1_000_000, "end_ms": f["time_flow_end_ns"] // 1_000_000,
                   "tcp_flags": f.get("tcp_flags"), "in_if": f.get("in_if"), "out_if": f.get("out_if")}


def netflow(path, folder):
    out = os.path.join(folder, "flows.gz")
    python = os.environ.get("VERSUS_PYTHON", "python3")
    collected(path, [python, "-m", "netflow.collector", "--host", "127.0.0.1", "-p", "PORT", "-o", out], signal.SIGINT, folder)
    if not os.path.exists(out):
        return
    with gzip.open(out, "rt") as lines:
        flows = [flow for line in lines for message in json.loads(line).values() for flow in message["flows"]]
    for f in flows:
        one = lambda *names: next((f[n] for n in names if n in f), None)
        if one("IN_BYTES", "IN_OCTETS", "octetDeltaCount", "IN_PKTS", "IPV4_SRC_ADDR", "sourceIPv4Address", "sourceIPv6Address",
               "IPV6_SRC_ADDR") is None:
            continue  # an options record: it makes no difference between the two
        yield {"src": address(one("IPV4_SRC_ADDR", "IPV6_SRC_ADDR", "sourceIPv4Address", "sourceIPv6Address")),
               "dst": address(one("IPV4_DST_ADDR", "IPV6_DST_ADDR", "destinationIPv4Address", "destinationIPv6Address")),
               "sport": one("L4_SRC_PORT", "SRC_PORT", "sourceTransportPort"),
               "dport": one("L4_DST_PORT", "DST_PORT", "destinationTransportPort"),
               "proto": one("PROTOCOL", "PROTO", "protocolIdentifier"), "packets": one("IN_PKTS", "IN_PACKETS", "packetDeltaCount"),
               "bytes": one("IN_BYTES", "IN_OCTETS", "octetDeltaCount"), "tcp_flags": one("TCP_FLAGS", "tcpControlBits"),
               "in_if": one("INPUT_SNMP", "INPUT", "ingressInterface"), "out_if": one("OUTPUT_SNMP", "OUTPUT", "egressInterface")}


def tshark(path, _folder):
    command = ["tshark", "-2", "-r", path, "-d", "udp.port==2055,cflow", "-T", "json", "-J", "cflow", "--no-duplicate-keys"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=120,
                         env={**os.environ, "TZ": "UTC"})

    def first(value):
        return value[0] if isinstance(value, list) else value

    def flows(node):
        for name, child in node.items() if isinstance(node, dict) else ():
            for one in child if isinstance(child, list) else [child]:
                is_flow = name.startswith(("Flow ", "pdu ")) and isinstance(one, dict)
                if is_flow and any(k in one for k in ("cflow.octets", "cflow.srcaddr", "cflow.srcaddrv6")):
                    yield one
                else:
                    yield from flows(one)

    for packet in json.loads(run.stdout or b"[]"):
        for f in flows(packet["_source"]["layers"]):
            get = lambda name: first(f.get(name))
            times = first(f.get("cflow.timedelta_tree")) or {}
            stamp = lambda *names: next((tshark_ms(first(times[n])) for n in names if n in times), None)
            yield {"src": address(get("cflow.srcaddr") or get("cflow.srcaddrv6")),
                   "dst": address(get("cflow.dstaddr") or get("cflow.dstaddrv6")), "sport": number(get("cflow.srcport")),
                   "dport": number(get("cflow.dstport")), "proto": number(get("cflow.protocol")),
                   "packets": number(get("cflow.packets")), "bytes": number(get("cflow.octets")),
                   "start_ms": stamp("cflow.abstimestart"), "end_ms": stamp("cflow.abstimeend"),
                   "tcp_flags": number(get("cflow.tcpflags")), "in_if": number(get("cflow.inputint")),
                   "out_if": number(get("cflow.outputint"))}


def tshark_ms(text):
    """`Nov 23, 2026 17:03:26.697000000 UTC`"""
    seconds, _, rest = text.partition(".")
    whole = datetime.datetime.strptime(seconds, "%b %d, %Y %H:%M:%S").replace(tzinfo=datetime.timezone.utc).timestamp()
    return int(whole) * 1000 + int(rest[:3] or 0)


def key(flow):
    """What tells flows apart; collectors that know no absent value print zero for it. Ports of ICMP are left out: type and code stand in one or the other, or apart."""
    ports = (0, 0) if flow.get("proto") in (1, 58) else (flow.get("sport") or 0, flow.get("dport") or 0)
    return flow.get("src"), flow.get("dst"), *ports, flow.get("proto") or 0


def compared(ours, theirs):
    """Pairs of the same key: alike, or with the fields that differ; and what only one has."""
    pools = collections.defaultdict(list)
    for flow in theirs:
        pools[key(flow)].append(flow)
    alike, fields, examples, alone, waiting = 0, collections.Counter(), {}, [], []

    def difference(a, b):
        # Collectors that know no absent value print zero for it.
        return [k for k in COMPARED if b.get(k) is not None and a.get(k) != b[k] and (a.get(k), b[k]) != (None, 0)]

    for flow in ours:
        pool = pools[key(flow)]
        same = next((i for i, other in enumerate(pool) if not difference(flow, other)), None)
        if same is None:
            waiting.append(flow)
        else:
            pool.pop(same)
            alike += 1
    for flow in waiting:
        pool = pools[key(flow)]
        if not pool:
            alone.append(flow)
            continue
        other = min(pool, key=lambda o: len(difference(flow, o)))
        pool.remove(other)
        wrong = difference(flow, other)
        fields[", ".join(wrong)] += 1
        examples.setdefault(", ".join(wrong), " ".join(f"{k} {flow.get(k)} / {other[k]}" for k in wrong))
    return alike, fields, examples, alone, [f for pool in pools.values() for f in pool]


def short(flow):
    return " ".join(str(flow.get(k)) for k in (*KEY, "packets", "bytes"))


def missing(name):
    """How to get a collector that is not here."""
    if name == "netflow":
        python = os.environ.get("VERSUS_PYTHON", "python3")
        try:
            probe = subprocess.run([python, "-c", "import netflow.collector"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, timeout=30)
            is_here = probe.returncode == 0
        except (OSError, subprocess.SubprocessError):
            is_here = False
        return None if is_here else "python3 -m venv DIR && DIR/bin/pip install netflow, then VERSUS_PYTHON=DIR/bin/python"
    programs, how = {"nfdump": (["nfcapd", "nfdump"], "apt install nfdump"), "nfacctd": (["nfacctd"], "apt install pmacct"),
                     "tshark": (["tshark"], "apt install tshark"),
                     "goflow2": (["goflow2"], "go install github.com/netsampler/goflow2/v2/cmd/goflow2@latest")}[name]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", os.path.expanduser("~/go/bin")])
    return None if all(shutil.which(p, path=path) for p in programs) else how


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=[os.path.join(ROOT, "fixtures")], help="files and folders [fixtures/]")
    parser.add_argument("--only", default="", help="recordings whose name holds this text")
    parser.add_argument("--peer", default="nfdump,nfacctd,tshark,goflow2,netflow", help="collectors, with commas between")
    a = parser.parse_args()
    known = {"nfdump": nfdump, "nfacctd": nfacctd, "tshark": tshark, "goflow2": goflow2, "netflow": netflow}
    names = []
    for name in a.peer.split(","):
        if name not in known:
            parser.error(f"there is no collector {name}: there are {', '.join(known)}")
        how = missing(name)
        if how:
            print(f"exact.py: {name} is missing; get it by: {how}", file=sys.stderr)
        else:
            names.append(name)
    if not names:
        return 1
    below = lambda path: glob.glob(os.path.join(path, "**", "*.pcap"), recursive=True) if os.path.isdir(path) else [path]
    files = sorted(f for path in a.paths for f in below(path) if a.only in f)
    print("| recording | collector | flows of flowlane / its | alike | differ: flowlane / it | only flowlane | only it |")
    print("|---|---|---:|---:|---|---|---|")
    for path in files:
        ours = list(flowlane(path))
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    theirs = list(known[name](path, folder))
                except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as why:
                    print(f"exact.py: {name} on {os.path.basename(path)}: {why}", file=sys.stderr)
                    continue
            alike, fields, examples, ours_alone, theirs_alone = compared(ours, theirs)
            differ = "; ".join(f"{n} x {examples[f]}" for f, n in fields.most_common())
            some = lambda flows: f"{len(flows)}: {short(flows[0])}" if flows else ""
            print(f"| {os.path.basename(path)} | {name} | {len(ours)} / {len(theirs)} | {alike} | {differ} | {some(ours_alone)} | "
                  f"{some(theirs_alone)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
