"""A day of generated traffic as a capture: what the report is tested with, and drawn from.

Three exporters send IPFIX. The same seed gives the same flows; everything is written here, apart from the program.
"""
import ipaddress
import math
import random
import struct

EXPORTERS = ["192.0.2.1", "192.0.2.2", "198.51.100.7"]
STEP = 300  # seconds of the day that go into one message of each exporter, at least
# Element, octets; 65535 is a variable length.
COMMON = [(7, 2), (11, 2), (4, 1), (6, 1), (1, 8), (2, 8), (152, 8), (153, 8), (10, 4), (14, 4), (16, 4), (17, 4), (96, 65535)]
TEMPLATES = {4: (256, [(8, 4), (12, 4)] + COMMON), 6: (257, [(27, 16), (28, 16)] + COMMON)}
# Protocol, port, share of the flows, mean bytes, application.
SERVICES = [
    (6, 443, 34, 5_400_000, "https"), (17, 443, 22, 8_400_000, "quic"), (17, 53, 18, 10_800, "dns"), (6, 80, 7, 2_400_000, "http"),
    (6, 22, 3, 720_000, "ssh"), (17, 123, 4, 5_400, "ntp"), (6, 25, 2, 1_800_000, "smtp"), (6, 993, 2, 1_500_000, "imaps"),
    (17, 51820, 2, 18_000_000, "wireguard"), (6, 5432, 1, 3_600_000, "postgresql"), (1, 0, 3, 7_200, "icmp"), (47, 0, 1, 13_200_000, "gre"),
    (6, 8443, 1, 3_000_000, ""),
]
NETWORKS = [("198.51.100.0/24", 64496), ("203.0.113.0/25", 64497), ("203.0.113.128/25", 64498), ("192.0.2.128/25", 64499),
            ("2001:db8:1::/64", 64500), ("2001:db8:2::/64", 64501)]


class Day:
    """Messages of a day that begins at `begin`, seconds since 1970; `sums` counts what is in them."""

    def __init__(self, begin, flows, seed=7, hours=24, applications=()):
        self.begin, self.flows, self.hours, self.applications = begin, flows, hours, applications
        self.random = random.Random(seed)
        self.sequence = dict.fromkeys(EXPORTERS, 0)
        self.sums = {"flows": 0, "bytes": 0, "packets": 0}

    def host(self, family):
        fits = [n for n in NETWORKS if (":" in n[0]) == (family == 6)]
        network, number = fits[min(int(self.random.expovariate(1.0)), len(fits) - 1)]
        network = ipaddress.ip_network(network)
        place = 1 + min(int(self.random.paretovariate(0.9)), min(network.num_addresses, 256) - 2)
        return network.network_address + place, number

    def level(self, hour):
        """How busy an hour is: nights are quiet, a backup runs at two."""
        day = 0.18 + 0.82 * max(0.0, math.sin((hour - 6.5) / 15 * math.pi)) ** 1.3 if 6.5 < hour < 21.5 else 0.18
        return day + 0.1 * self.random.random()

    def flow(self, at, hour):
        family = 6 if self.random.random() < 0.3 else 4
        proto, port, _, mean, name = self.random.choices(SERVICES, [s[2] for s in SERVICES])[0]
        if 2 <= hour < 3 and self.random.random() < 0.5:
            proto, port, mean, name = 6, 873, 54_000_000, "rsync"
        (inside, inside_as), (outside, outside_as) = self.host(family), self.host(family)
        while inside == outside:
            outside, outside_as = self.host(family)
        octets = max(64, int(mean * self.random.lognormvariate(-0.6, 1.1)))
        packets = max(1, octets // self.random.randint(700, 1400))
        seconds = min(280.0, self.random.expovariate(1 / 20))
        ports = (self.random.randint(32768, 60999), port) if port else (0, 0)
        if self.random.random() < 0.6:  # the answer, which is the larger part
            inside, outside, inside_as, outside_as, ports = outside, inside, outside_as, inside_as, ports[::-1]
        name = (self.random.choice(self.applications) if self.applications else name).encode()
        end = int((at - self.random.random() * 5) * 1000)
        for key, n in (("flows", 1), ("bytes", octets), ("packets", packets)):
            self.sums[key] += n
        return family, inside.packed + outside.packed + struct.pack(
            ">HHBBQQQQIIII", *ports, proto, 0x1b if proto == 6 else 0, octets, packets, end - int(seconds * 1000), end,
            self.random.choice([1, 1, 2, 3]), self.random.choice([1, 2, 2, 3]), inside_as, outside_as
        ) + bytes([len(name)]) + name

    def messages(self):
        """(time, exporter, bytes) in order of time."""
        steps = [(self.begin + s, s / 3600) for s in range(STEP, self.hours * 3600 + 1, STEP)]
        levels = [self.level(hour % 24) for _, hour in steps]
        for (at, hour), level in zip(steps, levels):
            for exporter, share in zip(EXPORTERS, (0.6, 0.3, 0.1)):
                if exporter == EXPORTERS[1] and 13.2 < hour < 13.8:
                    continue  # out of order for half an hour
                records = [self.flow(at, hour % 24) for _ in range(round(self.flows * share * level / sum(levels)))]
                for n, first in enumerate(range(0, len(records), 12)):
                    yield at + n * 0.01, exporter, self.message(at, exporter, records[first:first + 12])

    def message(self, at, exporter, records):
        sets = b""
        if self.sequence[exporter] == 0:
            for number, fields in TEMPLATES.values():
                body = struct.pack(">HH", number, len(fields)) + b"".join(struct.pack(">HH", *f) for f in fields)
                sets += struct.pack(">HH", 2, 4 + len(body)) + body
        for family, (number, _) in TEMPLATES.items():
            body = b"".join(r for f, r in records if f == family)
            sets += struct.pack(">HH", number, 4 + len(body)) + body if body else b""
        header = struct.pack(">HHIII", 10, 16 + len(sets), int(at), self.sequence[exporter], 1)
        self.sequence[exporter] += len(records)
        return header + sets


def capture(path, day):
    """Writes the messages as a pcap of raw IPv4 packets."""
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for at, exporter, message in day.messages():
            udp = struct.pack(">HHHH", 4739, 4739, 8 + len(message), 0) + message
            packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                                 ipaddress.ip_address(exporter).packed, bytes([127, 0, 0, 1])) + udp
            out.write(struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(packet), len(packet)) + packet)
