#!/usr/bin/env python3
"""Records real exporters from Debian into fixtures/: each measures traffic.py's traffic and exports to a collector beside it.

    record.py [--only TEXT] [--out fixtures]      as root on Debian 12, about four minutes

Everything happens in two network namespaces made for each recording and joined by a veth pair, so no datagram leaves the machine.
softflowd and pmacctd read the traffic from a file; fprobe, Open vSwitch and the recordings named `live` see it played on an
interface. Beside each X.pcap stands X.records.jsonl.gz, what reference.py reads in it; MANIFEST.csv lists them all.
"""
import argparse
import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import reference
import traffic

PACKAGES = ["softflowd", "pmacct", "fprobe", "openvswitch-switch", "tcpreplay", "ethtool", "iproute2"]
PORT = 2055
COLLECTOR = {4: "10.255.0.2", 6: "2001:db8:ffff::2"}
TRAFFIC = {  # seed, conversations, seconds
    "office": (1009, 1000, 240),
    "demo": (2012, 260, 60),
    "small": (3001, 280, 40),
}
RICH = "src_host, dst_host, src_port, dst_port, proto, tos, tcpflags, src_mac, dst_mac, vlan"
PLAIN = "src_host, dst_host, src_port, dst_port, proto, tos, tcpflags"


def softflowd(name, options, traffic="office", family=4, live=False):
    return (name, "softflowd", {"options": options, "live": live}, traffic, family)


def pmacctd(name, version, aggregate=PLAIN, more="", traffic="office", family=4):
    return (name, "pmacctd", {"version": version, "aggregate": aggregate, "more": more}, traffic, family)


RECORDINGS = [
    softflowd("demo/softflowd_v5", "-v 5 -a", "demo"),
    softflowd("demo/softflowd_v9", "-v 9 -a", "demo"),
    pmacctd("demo/pmacctd_ipfix", 10, RICH, "", "demo"),
    ("demo/fprobe_v7", "fprobe", {"version": 7}, "demo", 4),
    softflowd("softflowd_v1", "-v 1 -a"),
    softflowd("softflowd_v5_sampled", "-v 5 -a -s 10"),
    softflowd("softflowd_v9_export_over_v6", "-v 9 -a -T vlan", family=6),
    softflowd("softflowd_v9_ether", "-v 9 -a -T ether"),
    softflowd("softflowd_v9_sampled", "-v 9 -a -s 10"),
    softflowd("softflowd_v9_live", "-v 9 -t maxlife=2s -t expint=1s -t udp=1s -t tcp=2s -t icmp=1s", "small", live=True),
    softflowd("softflowd_ipfix", "-v 10 -a"),
    softflowd("softflowd_ipfix_sec_sampled", "-v 10 -a -A sec -s 10"),
    softflowd("softflowd_ipfix_bidirectional", "-v 10 -a -b -A milli"),
    softflowd("softflowd_ipfix_bidirectional_ether_nano", "-v 10 -a -b -T ether -A nano"),
    softflowd("softflowd_ipfix_micro_over_v6", "-v 10 -a -A micro", "small", family=6),
    softflowd("softflowd_ipfix_live", "-v 10 -t maxlife=2s -t expint=1s -t udp=1s -t tcp=2s -t icmp=1s", "small", live=True),
    softflowd("softflowd_psamp", "-v psamp -s 50"),
    pmacctd("pmacctd_v5", 5),
    pmacctd("pmacctd_v9", 9, RICH),
    pmacctd("pmacctd_v9_sampled", 9, PLAIN, "sampling_rate: 10\nnfprobe_engine: 77\nnfprobe_direction: in\nnfprobe_ifindex: 3\n"),
    pmacctd("pmacctd_ipfix_sampled", 10, PLAIN, "sampling_rate: 10\nnfprobe_engine: 78\n"),
    pmacctd("pmacctd_ipfix_usec_over_v6", 10, RICH, "nfprobe_tstamp_usec: true\n", family=6),
    pmacctd("pmacctd_ipfix_labels", 10, PLAIN + ", tag, label", "pre_tag_map: {map}\n", "small"),
    ("fprobe_v1", "fprobe", {"version": 1}, "small", 4),
    ("fprobe_v5", "fprobe", {"version": 5}, "small", 4),
    ("openvswitch_v5", "openvswitch", {"table": "netflow", "options": 'targets="{to}" engine_type=3 engine_id=4 active_timeout=5'}, "small", 4),
    ("openvswitch_ipfix", "openvswitch", {"table": "ipfix", "options": 'targets="{to}" obs_domain_id=7 obs_point_id=8 sampling=1 cache_active_timeout=4 cache_max_flows=2000'}, "small", 4),
    ("openvswitch_ipfix_sampled_over_v6", "openvswitch", {"table": "ipfix", "options": 'targets="{to}" obs_domain_id=9 obs_point_id=1 sampling=10'}, "small", 6),
]


def run(*argv, **kw):
    return subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, **kw)


class Stage:
    """Two namespaces, a wire between them for exports, one inside the probe's for traffic, and a recorder on the collector's end."""

    def __init__(self, folder):
        self.folder = folder
        self.probe, self.collector = f"flprobe{os.getpid()}", f"flcoll{os.getpid()}"
        self.started = []

    def __enter__(self):
        for space in (self.probe, self.collector):
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        run("ip", "-n", self.probe, "link", "add", "out0", "mtu", "9000", "type", "veth", "peer", "name", "in0", "mtu", "9000", "netns", self.collector)
        run("ip", "-n", self.probe, "link", "add", "play0", "type", "veth", "peer", "name", "tap0")
        run("ip", "-n", self.probe, "link", "add", "back0", "type", "veth", "peer", "name", "back1")
        for space, device, last in ((self.probe, "out0", 1), (self.collector, "in0", 2)):
            run("ip", "-n", space, "link", "set", device, "address", f"02:00:00:00:ff:{last:02}")
            run("ip", "-n", space, "addr", "add", f"10.255.0.{last}/24", "dev", device)
            run("ip", "-n", space, "addr", "add", f"2001:db8:ffff::{last}/64", "dev", device, "nodad")
            run("ip", "netns", "exec", space, "ethtool", "-K", device, "tx", "off", stdout=subprocess.DEVNULL)  # true checksums
            run("ip", "-n", space, "link", "set", device, "up")
        for space, device, other in ((self.probe, "out0", 2), (self.collector, "in0", 1)):
            # Known from the start, so that no first datagram waits for neighbour discovery.
            for address in (f"10.255.0.{other}", f"2001:db8:ffff::{other}"):
                run("ip", "-n", space, "neigh", "replace", address, "lladdr", f"02:00:00:00:ff:{other:02}", "dev", device)
        for device in ("play0", "tap0", "back0", "back1"):
            # The kernel's own IPv6 chatter stays out of the traffic.
            run("ip", "netns", "exec", self.probe, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
            run("ip", "-n", self.probe, "link", "set", device, "up")
        return self

    def __exit__(self, *_):
        for space in (self.probe, self.collector):
            self.signal(space, signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        for space in (self.probe, self.collector):
            subprocess.run(["ip", "netns", "del", space])

    def start(self, space, argv, log=None, **kw):
        out = open(log, "w") if log else subprocess.DEVNULL
        process = subprocess.Popen(["ip", "netns", "exec", space, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **kw)
        self.started.append(process)
        return process

    def signal(self, space, number):
        """Signals whatever runs in the namespace (daemons leave their parents)."""
        for pid in subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), number)

    def play(self, frames):
        """The traffic on play0 (seen on tap0), a minute in about seven seconds."""
        run("ip", "netns", "exec", self.probe, "tcpreplay", "-q", "--multiplier=8", "-i", "play0", frames, stdout=subprocess.DEVNULL)


def target(family):
    return f"[{COLLECTOR[family]}]:{PORT}" if family == 6 else f"{COLLECTOR[family]}:{PORT}"


# Each runs one exporter over the traffic and returns the command line that stands in the manifest.


def run_softflowd(stage, config, frames, family):
    source = ["-i", "tap0"] if config["live"] else ["-r", frames]
    argv = ["softflowd", "-d", "-p", f"{stage.folder}/pid", "-c", f"{stage.folder}/ctl", *source, "-n", target(family), *config["options"].split()]
    process = stage.start(stage.probe, argv, f"{stage.folder}/log")
    if config["live"]:
        time.sleep(1)
        stage.play(frames)
        time.sleep(3)
        stage.signal(stage.probe, signal.SIGTERM)
    process.wait(30)
    return "softflowd -d " + ("-i tap0" if config["live"] else "-r traffic.pcap") + f" -n {target(family)} {config['options']}"


def run_pmacctd(stage, config, frames, family):
    with open(f"{stage.folder}/map", "w") as f:
        f.write("set_tag=100 set_label=names filter='udp port 53 or vlan and udp port 53'\n")
        f.write("set_tag=200 set_label=a_rather_longer_label_for_the_web filter='tcp port 443 or tcp port 80'\n")
        f.write("set_tag=300 set_label=rest filter='ip or ip6 or vlan'\n")
    lines = [
        "daemonize: false",
        f"pcap_savefile: {frames}",
        "pcap_savefile_wait: true",
        f"aggregate: {config['aggregate']}",
        "plugins: nfprobe",
        f"nfprobe_receiver: {target(family)}",
        f"nfprobe_version: {config['version']}",
        "nfprobe_timeouts: tcp=30:udp=10:icmp=10:general=30:expint=5",
    ] + config["more"].format(map=f"{stage.folder}/map").splitlines()
    with open(f"{stage.folder}/conf", "w") as f:
        f.write("\n".join(lines) + "\n")
    process = stage.start(stage.probe, ["pmacctd", "-f", f"{stage.folder}/conf"], f"{stage.folder}/log")
    time.sleep(7)
    stage.signal(stage.probe, signal.SIGINT)
    process.wait(15)
    time.sleep(1)
    return "pmacctd -f conf: " + "; ".join(lines[1:]).replace(stage.folder + "/", "").replace(os.path.basename(frames), "traffic.pcap")


def run_fprobe(stage, config, frames, family):
    argv = ["fprobe", "-i", "tap0", "-n", str(config["version"]), "-s", "1", "-g", "2", "-d", "2", "-e", "4", "-q", "5000", "-x", "5:6", "-fip", "-l", "2"]
    stage.start(stage.probe, [*argv, target(family)], f"{stage.folder}/log")
    time.sleep(1)
    stage.play(frames)
    time.sleep(4)
    stage.signal(stage.probe, signal.SIGTERM)  # sends what it holds
    time.sleep(2)
    return " ".join(argv) + " " + target(family)


def run_openvswitch(stage, config, frames, family):
    there = dict(os.environ, OVS_RUNDIR=stage.folder, OVS_LOGDIR=stage.folder, OVS_DBDIR=stage.folder, OVS_SYSCONFDIR=stage.folder)
    database = f"unix:{stage.folder}/db.sock"
    run("ovsdb-tool", "create", f"{stage.folder}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema", env=there)
    stage.start(stage.probe, ["ovsdb-server", f"{stage.folder}/conf.db", f"--remote=p{database}"], env=there)
    time.sleep(0.5)
    vsctl = ["ovs-vsctl", f"--db={database}", "--timeout=10"]
    run(*vsctl, "--no-wait", "init", env=there)
    stage.start(stage.probe, ["ovs-vswitchd", database], f"{stage.folder}/log", env=there)
    options = config["options"].format(to=target(family))
    setting = ["--", "set", "bridge", "br0", f"{config['table']}=@x", "--", "--id=@x", "create", config["table"], *options.split()]
    run(*vsctl, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "--", "add-port", "br0", "tap0", "--",
        "add-port", "br0", "back1", *setting, env=there, stdout=subprocess.DEVNULL)
    time.sleep(1)
    stage.play(frames)
    time.sleep(16)  # the switch's idle flows end after ten seconds
    return "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev " + " ".join(setting)


RUN = {"softflowd": run_softflowd, "pmacctd": run_pmacctd, "fprobe": run_fprobe, "openvswitch": run_openvswitch}
PACKAGE = {"pmacctd": "pmacct", "openvswitch": "openvswitch-switch"}


def version_of(exporter):
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", PACKAGE.get(exporter, exporter)], capture_output=True, text=True, check=True)
    return shown.stdout


def record(recording, out):
    name, exporter, config, kind, family = recording
    seed, conversations, seconds = TRAFFIC[kind]
    with tempfile.TemporaryDirectory(prefix="flowlane-record-") as folder, Stage(folder) as stage:
        frames = f"{folder}/traffic.pcap"
        traffic.save(frames, traffic.frames(seed, conversations, seconds), int(time.time()) - seconds - 2)
        capture = f"{folder}/export.pcap"
        here = os.path.dirname(os.path.abspath(__file__))
        recorder = stage.start(stage.collector, [sys.executable, f"{here}/capture.py", "in0", str(PORT), capture])
        time.sleep(0.7)
        command = RUN[exporter](stage, config, frames, family)
        time.sleep(0.5)
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(5)
        target_file = os.path.join(out, name + ".pcap")
        os.makedirs(os.path.dirname(target_file), exist_ok=True)
        if os.path.getsize(capture) <= 24:
            with open(f"{folder}/log") as f:
                sys.exit(f"{name}: nothing was exported\n{f.read()[-3000:]}")
        shutil.copyfile(capture, target_file)
    return {"file": name + ".pcap", "exporter": exporter, "debian_version": version_of(exporter), "command": command,
            "traffic": f"{kind}: seed {seed}; {conversations} conversations; {seconds} s"}


def expect(out, row):
    """Writes the records beside the capture and counts them into its row."""
    path = os.path.join(out, row["file"])
    read = reference.read(path)
    text = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in read.records)
    with open(path[:-5] + ".records.jsonl.gz", "wb") as f:
        f.write(gzip.compress(text.encode(), 9, mtime=0))
    data = [r for r in read.records if r["kind"] == "data"]
    row["kind"], row["versions"] = "software", "+".join(str(v) for v in sorted({r["ver"] for r in read.records}))
    row["packets"], row["bytes"] = len(list(reference.datagrams(path))), os.path.getsize(path)
    row["templates"] = sum(t[0] == "data" for t in read.templates.values())
    row["options_templates"] = sum(t[0] == "options" for t in read.templates.values())
    row["data_records"], row["options_records"] = len(data), len(read.records) - len(data)
    for name, element in (("sum_octets", 1), ("sum_packets", 2)):
        row[name] = sum(int(f[3], 16) for r in data for f in r["fields"] if f[:2] == [0, element])
    return row


COLUMNS = ["file", "kind", "exporter", "debian_version", "versions", "packets", "bytes", "templates", "options_templates", "data_records",
           "options_records", "sum_octets", "sum_packets", "traffic", "command"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "fixtures"))
    parser.add_argument("--expect", action="store_true", help="record nothing, write the expected records and the manifest again")
    a = parser.parse_args()
    manifest = os.path.join(a.out, "MANIFEST.csv")
    rows = {}
    if os.path.exists(manifest):
        with open(manifest) as f:
            rows = {r["file"]: r for r in csv.DictReader(f)}
    if not a.expect:
        if os.geteuid():
            sys.exit("record.py makes network namespaces: run it as root")
        if any(subprocess.run(["dpkg", "-s", p], capture_output=True).returncode for p in PACKAGES):
            run("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
    for recording in RECORDINGS:
        name = recording[0] + ".pcap"
        if a.only not in name:
            continue
        row = rows[name] if a.expect else record(recording, a.out)
        rows[name] = expect(a.out, row)
        print(f"{name}: {row['packets']} packets, {row['data_records']} + {row['options_records']} records, {row['bytes']} bytes", flush=True)
        with open(manifest, "w", newline="") as f:
            writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[r[0] + ".pcap"] for r in RECORDINGS if r[0] + ".pcap" in rows)


if __name__ == "__main__":
    main()
