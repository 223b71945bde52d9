#!/usr/bin/env python3
"""Other people's exporters and readers against the program, over loopback.

    tests/interop.py target/release/flowlane [--only softflowd|pmacctd|connections|tshark|netflow]

- softflowd and pmacctd (Debian) measure the same generated traffic and export to `flowlane collect`; flows, bytes and packets
  equal what the exporter itself reports. softflowd does so over TCP, too.
- Python's ssl and `openssl s_client` send recorded IPFIX over TCP and TLS, with and without certificates of their own; flows, bytes
  and packets are those of the recording.
- tshark and `flowlane decode --format records` see the same values in the recordings.
- the Python package `netflow` reads our netflow-json file: every entry holds what its own collector would have written, and its
  analyzer prints the same of both.

Needs softflowd, pmacctd, openssl and tshark on the path; the Python that runs it needs `netflow` (pip install netflow==0.12.2).
Every step is bounded in time. No network beyond loopback.
"""
import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools", "record"))
sys.dont_write_bytecode = True
import check  # noqa: E402
import reference  # noqa: E402
import traffic  # noqa: E402

FIXTURES = os.path.join(ROOT, "fixtures")
WRITTEN = ["demo/softflowd_v5", "demo/softflowd_v9", "softflowd_ipfix_live"]  # of pmacctd the package reads no IPFIX
ANALYZED = "demo/softflowd_v9"  # the analyzer stops at v5 (KeyError: IN_PKTS) and skips IPFIX
SAMPLE = ["demo/fprobe_v7", "softflowd_v1", "softflowd_v9_ether", "softflowd_ipfix_bidirectional", "pmacctd_ipfix_labels", "openvswitch_ipfix"]


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bound(port):
    """Whether some process has the UDP port, or listens on the TCP port."""
    for table in ("udp", "udp6", "tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as f:
            for local, _, state in (line.split()[1:4] for line in f.readlines()[1:]):
                if local.endswith(f":{port:04X}") and state in ("07", "0A"):
                    return True
    return False


def tail(log):
    with open(log, errors="replace") as f:
        return f.read()[-2000:]


@contextlib.contextmanager
def collector(argv, port, log):
    """A collector that runs inside the block and is stopped with SIGINT at its end."""
    with open(log, "w") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 15
        while not bound(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{' '.join(argv)} did not open its port:\n{tail(log)}")
            time.sleep(0.05)
        time.sleep(0.3)
        yield process
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def collect(flowlane, folder, name, form, export, listen="listen", more=()):
    """Runs `flowlane collect` while `export(port)` sends; the path of what it wrote and what `export` returned."""
    port, out, log = free_port(), os.path.join(folder, f"{name}.out"), os.path.join(folder, f"{name}.log")
    argv = [flowlane, "collect", f"--{listen}", f"127.0.0.1:{port}", "--format", form, "--out", out, *more]
    if listen != "listen":
        argv += ["--listen", "none"]
    with collector(argv, port, log) as process:
        reported = export(port)
    assert process.returncode == 0, f"{' '.join(argv)}: exit {process.returncode}\n{tail(log)}"
    return out, reported


def sums(path):
    """Flows of an ndjson file, and the bytes and packets of each protocol, both directions."""
    flows, by_protocol = 0, {}
    with open(path) as f:
        for line in f:
            flow = json.loads(line)
            flows += 1
            octets, packets = by_protocol.get(flow.get("proto", 0), (0, 0))
            by_protocol[flow.get("proto", 0)] = (octets + flow.get("bytes", 0) + flow.get("rev_bytes", 0),
                                                 packets + flow.get("packets", 0) + flow.get("rev_packets", 0))
    return flows, by_protocol


def same(what, got, want):
    if isinstance(got, list) and len(got) == len(want):
        got, want = next(((a, b) for a, b in zip(got, want) if a != b), (0, 0))
    if got != want:
        raise AssertionError(f"{what}: flowlane {str(got)[:2000]}, the other {str(want)[:2000]}")


def report(name, flows, by_protocol):
    octets, packets = (sum(column) for column in zip(*by_protocol.values()))
    print(f"  {name}: {flows} flows, {octets} bytes, {packets} packets", flush=True)


def softflowd(flowlane, folder, frames):
    for name, options in [("v1", "-v 1"), ("v5", "-v 5"), ("v9", "-v 9"), ("v9 ether", "-v 9 -T ether"), ("IPFIX", "-v 10"),
                          ("IPFIX bidirectional", "-v 10 -b -A milli"), ("IPFIX over TCP", "-v 10 -P tcp")]:
        def export(port):
            argv = ["softflowd", "-d", "-p", f"{folder}/pid", "-c", f"{folder}/ctl", "-r", frames, "-n", f"127.0.0.1:{port}", "-a", *options.split()]
            run = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            assert not run.returncode, run.stdout
            return run.stdout

        listen = "tcp" if "TCP" in name else "listen"
        out, said = collect(flowlane, folder, "softflowd_" + re.sub(r"\W", "_", name), "ndjson", export, listen)
        exported = re.search(r"Flows exported: \d+ \((\d+) records\) in \d+ packets \((\d+) failures\)", said)
        table = re.findall(r"\((\d+)\):\s+(\d+)\s+(\d+)\s+[\d.]+s\s+[\d.]+s", said)
        flows, want = int(exported[1]), {int(p): (int(octets), int(packets)) for p, octets, packets in table}
        assert exported[2] == "0" and flows > 100, said
        same(f"softflowd {name}", sums(out), (flows, want))
        report(f"softflowd {name}", flows, want)


def run_pmacctd(folder, frames, version, port):
    """What pmacctd logs while it measures the traffic and exports it."""
    lines = ["daemonize: false", "debug: true", f"pcap_savefile: {frames}", "pcap_savefile_wait: true", "plugins: nfprobe",
             "aggregate: src_host, dst_host, src_port, dst_port, proto, tos, tcpflags", f"nfprobe_receiver: 127.0.0.1:{port}",
             f"nfprobe_version: {version}", "nfprobe_timeouts: tcp=30:udp=10:icmp=10:general=30:expint=5"]
    conf, log = f"{folder}/pmacctd.conf", f"{folder}/pmacctd.log"
    with open(conf, "w") as f:
        f.write("\n".join(lines) + "\n")
    with open(log, "w") as out:
        # A session of its own: the plugin is a second process, and both get the signal.
        process = subprocess.Popen(["pmacctd", "-f", conf], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        time.sleep(7)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        time.sleep(1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with open(log, errors="replace") as f:
        return f.read()


def pmacctd(flowlane, folder, frames):
    pattern = r"EXPIRED: seq:\d+ \[(\S+)\]:\d+ <> \S+ proto:(\d+) octets>:(\d+) packets>:(\d+) octets<:(\d+) packets<:(\d+)"
    for version in (5, 9, 10):
        out, said = collect(flowlane, folder, f"pmacctd_v{version}", "ndjson", lambda port: run_pmacctd(folder, frames, version, port))
        flows, want = 0, {}
        for address, protocol, *numbers in re.findall(pattern, said):
            if version == 5 and ":" in address:
                continue
            forth, packets_forth, back, packets_back = map(int, numbers)
            flows += (packets_forth > 0) + (packets_back > 0)
            octets, packets = want.get(int(protocol), (0, 0))
            want[int(protocol)] = (octets + forth + back, packets + packets_forth + packets_back)
        assert flows > 100, said[-2000:]
        same(f"pmacctd v{version}", sums(out), (flows, want))
        report(f"pmacctd v{version}", flows, want)


def certificates(folder):
    """An authority, and certificates of it for a collector and an exporter."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=60, cwd=folder)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for name in ("collector", "exporter"):
        with open(f"{folder}/{name}.ext", "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def connections(flowlane, folder, frames):
    certificates(folder)
    tls = ["--tls-cert", f"{folder}/collector.pem", "--tls-key", f"{folder}/collector.key"]
    both = [*tls, "--tls-client-ca", f"{folder}/ca.pem"]
    for name in ("softflowd_ipfix_live", "pmacctd_ipfix_labels", "openvswitch_ipfix"):
        path, want = os.path.join(FIXTURES, name + ".pcap"), os.path.join(folder, "want.ndjson")
        stream = b"".join(data for _, _, _, _, data in reference.datagrams(path))
        with open(want, "w") as f:
            subprocess.run([flowlane, "decode", "--format", "ndjson", path], stdin=subprocess.DEVNULL, stdout=f, check=True, timeout=60)
        want = sums(want)
        assert want[0] > 10, want

        def plain(port):
            with socket.create_connection(("127.0.0.1", port), 30) as s:
                for i in range(0, len(stream), 777):
                    s.sendall(stream[i:i + 777])

        def python(shows, version):
            def export(port):
                context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
                context.minimum_version = context.maximum_version = version
                if shows:
                    context.load_cert_chain(f"{folder}/exporter.pem", f"{folder}/exporter.key")
                with socket.create_connection(("127.0.0.1", port), 30) as s, context.wrap_socket(s, server_hostname="localhost") as t:
                    t.sendall(stream)
                    with contextlib.suppress(OSError):
                        t.unwrap()
            return export

        def s_client(port):
            argv = ["openssl", "s_client", "-quiet", "-verify_return_error", "-connect", f"127.0.0.1:{port}", "-CAfile", f"{folder}/ca.pem",
                    "-cert", f"{folder}/exporter.pem", "-key", f"{folder}/exporter.key"]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
                client.stdin.write(stream)
                client.stdin.flush()
                time.sleep(1)  # it forgets what it has not sent when its input ends
                client.stdin.close()
                client.terminate()

        for how, listen, more, export in [
                ("TCP", "tcp", [], plain),
                ("Python, TLS 1.3", "tls", tls, python(False, ssl.TLSVersion.TLSv1_3)),
                ("Python, TLS 1.2 and a certificate of its own", "tls", both, python(True, ssl.TLSVersion.TLSv1_2)),
                ("openssl s_client with a certificate", "tls", both, s_client)]:
            out, _ = collect(flowlane, folder, "connections", "ndjson", export, listen, more)
            same(f"{name} over {how}", sums(out), want)
            report(f"{name} over {how}", *want)
            os.remove(out)


def tshark(flowlane, folder, frames):
    for name in SAMPLE:
        path = os.path.join(FIXTURES, name + ".pcap")
        run = subprocess.run([flowlane, "decode", path, "--format", "records"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        assert not run.returncode, run.stderr.decode(errors="replace")
        records = [json.loads(line) for line in run.stdout.splitlines()]
        fault = check.faults_of_tshark(path, records)
        assert not fault, f"{name}: {fault} (tshark, then flowlane)"
        print(f"  tshark and flowlane agree on {name} ({len(records)} records)", flush=True)


def entries(path):
    with gzip.open(path, "rt") as f:
        for line in f:
            (entry,) = json.loads(line).values()
            yield entry


def analysis(path):
    """What the library's analyzer prints, without the receive times."""
    run = subprocess.run([sys.executable, "-m", "netflow.analyzer", "-n", "-p", "1", "-f", path], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert not run.returncode, run.stderr
    lines = [line.split(" | ", 1)[-1] for line in run.stdout.splitlines()]
    assert len(lines) > 50, run.stdout + run.stderr
    return lines


def octets_of(flow):
    return next((flow[key] for key in ("IN_BYTES", "IN_OCTETS", "octetDeltaCount") if key in flow), None)


def sent(flows, octets):
    """The package's flows that are in the message: it also lists IPFIX options records, and reads padding and the next set as a flow."""
    kept, left = [], list(octets)
    for flow in flows:
        if left and octets_of(flow) == left[0]:
            kept.append(flow)
            left.pop(0)
    assert not left, f"the netflow package misses {len(left)} flows"
    return kept


def known(flow):
    """Elements that the package has no name for share one key there; with us each has its own."""
    return {k: v for k, v in flow.items() if "UNKNOWN" not in k}


def netflow(flowlane, folder, frames):
    import netflow as library

    for name in WRITTEN:
        path = os.path.join(FIXTURES, name + ".pcap")
        datagrams = [data for _, _, _, _, data in reference.datagrams(path)]
        octets = {number: [] for number in range(1, len(datagrams) + 1)}
        for record in reference.read(path).records:
            if record["kind"] == "data":
                octets[record["pkt"]] += [int(f[3], 16) for f in record["fields"] if f[:2] == [0, 1]][:1]

        def export(port):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("127.0.0.1", 0))
                for data in datagrams:  # at once: the format's keys are times of receipt, and the analyzer keeps one entry a time
                    s.sendto(data, ("127.0.0.1", port))
                return s.getsockname()

        out, client = collect(flowlane, folder, "netflow_json", "netflow-json", export)
        templates, want = {"netflow": {}, "ipfix": {}}, []
        for data in datagrams:
            packet = library.parse_packet(data, templates)
            flows = sent([flow.data for flow in packet.flows], octets[len(want) + 1])
            want.append({"client": list(client), "header": packet.header.to_dict(), "flows": [known(f) for f in flows]})
        want = json.loads(json.dumps(want))
        got = [dict(entry, flows=[f for f in entry["flows"] if octets_of(f) is not None]) for entry in entries(out)]
        same(f"netflow {name}, entries", len(got), len(want))
        for i, (a, b) in enumerate(zip(got, want)):
            same(f"netflow {name}, entry {i}, client and header", (a["client"], a["header"]), (b["client"], b["header"]))
            same(f"netflow {name}, entry {i}, flows", len(a["flows"]), len(b["flows"]))
            for j, (x, y) in enumerate(zip(a["flows"], b["flows"])):
                same(f"netflow {name}, entry {i}, flow {j}", {k: x.get(k) for k in y}, y)
        if name == ANALYZED:
            theirs = os.path.join(folder, "theirs.gz")
            with gzip.open(theirs, "wt") as f:
                for i, entry in enumerate(want):
                    f.write(json.dumps({f"{1_700_000_000 + i}.5": entry}) + "\n")
            same(f"the analyzer on {name}", analysis(out), analysis(theirs))
        print(f"  the netflow package reads {name}: {len(want)} entries, {sum(len(e['flows']) for e in want)} flows", flush=True)
        os.remove(out)


STEPS = {"softflowd": softflowd, "pmacctd": pmacctd, "connections": connections, "tshark": tshark, "netflow": netflow}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowlane")
    parser.add_argument("--only", choices=STEPS)
    a = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="flowlane-interop-") as folder:
        os.chmod(folder, 0o755)  # softflowd and pmacctd drop their rights
        frames = os.path.join(folder, "traffic.pcap")
        traffic.save(frames, traffic.frames(77, 400, 60), int(time.time()) - 65)
        for name, step in STEPS.items():
            if a.only not in (None, name):
                continue
            program = {"netflow": sys.executable, "connections": "openssl"}.get(name, name)
            if not shutil.which(program):
                sys.exit(f"{program} is not installed")
            try:
                step(os.path.abspath(a.flowlane), folder, frames)
            except (AssertionError, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"{name} FAILED: {e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
