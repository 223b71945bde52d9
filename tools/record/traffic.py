"""Traffic for the exporters to measure: frames of a small office and its servers, the same for the same seed.

`frames(seed, conversations, span)` gives `[(seconds from the start, frame)]` in order of time. All addresses are from
the documentation ranges (RFC 5737, RFC 3849) and RFC 1918; nothing is ever sent outside the machine.
"""
import array
import random
import socket
import struct

CLIENT_MAC = bytes.fromhex("020000000a01")
GATEWAY_MAC = bytes.fromhex("020000000b01")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(array.array("H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("=H", ~total & 0xFFFF)


class Host:
    """One end of a conversation: an address (either family) and a port."""

    def __init__(self, address, port=0):
        self.v6 = ":" in address
        self.raw = socket.inet_pton(socket.AF_INET6 if self.v6 else socket.AF_INET, address)
        self.port = port


def pseudo(src, dst, protocol, length):
    if src.v6:
        return src.raw + dst.raw + struct.pack("!IxxxB", length, protocol)
    return src.raw + dst.raw + struct.pack("!xBH", protocol, length)


class Wire:
    """Collects frames; knows how to wrap a payload in IPv4 or IPv6, in fragments, in a VLAN tag."""

    def __init__(self, rng):
        self.rng = rng
        self.frames = []
        self.ident = 1

    def ethernet(self, at, up, v6, packet, vlan):
        ends = GATEWAY_MAC + CLIENT_MAC if up else CLIENT_MAC + GATEWAY_MAC
        tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
        frame = ends + tag + struct.pack("!H", 0x86DD if v6 else 0x0800) + packet
        self.frames.append((at, frame.ljust(60, b"\0")))

    def packet(self, at, up, src, dst, protocol, segment, tos=0, vlan=0, mtu=1500, ttl=64):
        room = (mtu - (48 if src.v6 else 20)) // 8 * 8
        whole = len(segment) + (40 if src.v6 else 20) <= mtu
        pieces = [(0, segment)] if whole else [(o, segment[o:o + room]) for o in range(0, len(segment), room)]
        self.ident = self.ident % 65535 + 1
        for offset, piece in pieces:
            more = offset + len(piece) < len(segment)
            if src.v6:
                if whole:
                    body, following = piece, protocol
                else:
                    body, following = struct.pack("!BxHI", protocol, offset | more, self.ident) + piece, 44
                head = struct.pack("!IHBB", 6 << 28 | tos << 20 | 0x1234, len(body), following, ttl) + src.raw + dst.raw
                packet = head + body
            else:
                flags = 0x4000 if whole else more << 13 | offset // 8
                head = struct.pack("!BBHHHBBxx", 0x45, tos, 20 + len(piece), self.ident, flags, ttl, protocol) + src.raw + dst.raw
                packet = head[:10] + checksum(head) + head[12:] + piece
            self.ethernet(at, up, src.v6, packet, vlan)
            at += 0.00002

    def tcp(self, at, up, src, dst, flags, seq, ack, size=0, **kw):
        head = struct.pack("!HHIIBBHHH", src.port, dst.port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags, 64240, 0, 0)
        segment = head + bytes(size)
        mark = checksum(pseudo(src, dst, 6, len(segment)) + segment)
        self.packet(at, up, src, dst, 6, segment[:16] + mark + segment[18:], **kw)

    def udp(self, at, up, src, dst, size, **kw):
        segment = struct.pack("!HHHH", src.port, dst.port, 8 + size, 0) + bytes(size)
        mark = checksum(pseudo(src, dst, 17, len(segment)) + segment)
        self.packet(at, up, src, dst, 17, segment[:6] + mark + segment[8:], **kw)

    def icmp(self, at, up, src, dst, kind, code, rest, **kw):
        segment = struct.pack("!BBH", kind, code, 0) + rest
        protocol = 58 if src.v6 else 1
        mark = checksum((pseudo(src, dst, 58, len(segment)) if src.v6 else b"") + segment)
        self.packet(at, up, src, dst, protocol, segment[:2] + mark + segment[4:], **kw)


def tcp_conversation(wire, at, client, server, sizes, tos, vlan, ending="fin"):
    """Handshake, alternating data, end; `sizes` are bytes that the client and the server send in turn."""
    rng, rtt = wire.rng, wire.rng.uniform(0.002, 0.06)
    a, b = rng.getrandbits(32), rng.getrandbits(32)
    kw = {"tos": tos, "vlan": vlan}
    wire.tcp(at, True, client, server, SYN, a, 0, **kw)
    if ending == "unanswered":
        return
    if ending == "refused":
        return wire.tcp(at + rtt, False, server, client, RST | ACK, 0, a + 1, **kw)
    wire.tcp(at + rtt, False, server, client, SYN | ACK, b, a + 1, **kw)
    at += 1.2 * rtt
    wire.tcp(at, True, client, server, ACK, a + 1, b + 1, **kw)
    a, b, up = a + 1, b + 1, True
    for size in sizes:
        at += rtt
        src, dst = (client, server) if up else (server, client)
        while size > 0:
            part = min(size, 1380)
            wire.tcp(at, up, src, dst, ACK | (PSH if part == size else 0), a if up else b, b if up else a, part, **kw)
            if up:
                a += part
            else:
                b += part
            size -= part
            at += 0.0003
        up = not up
    if ending == "reset":
        return wire.tcp(at + rtt, True, client, server, RST, a, 0, **kw)
    wire.tcp(at + rtt, True, client, server, FIN | ACK, a, b, **kw)
    wire.tcp(at + 2 * rtt, False, server, client, FIN | ACK, b, a + 1, **kw)
    wire.tcp(at + 2.1 * rtt, True, client, server, ACK, a + 1, b + 1, **kw)


def frames(seed, conversations, span, v6_share=0.4, vlan_share=0.1):
    """The whole traffic: TCP (web, mail, shells, scans), UDP (names, time, QUIC, fragments), ICMP, and some rarer protocols."""
    rng = random.Random(seed)
    wire = Wire(rng)
    # A few hosts do most of the talking.
    clients = [n for n in range(10, 50) for _ in range(200 // n)]
    servers = [n for n in range(5, 60) for _ in range(120 // n)]

    def ends(port, service):
        if rng.random() < v6_share:
            return (Host(f"2001:db8:1::{rng.choice(clients):x}", port), Host(f"2001:db8:{rng.choice([53, 80, 443]):x}::{rng.choice(servers):x}", service))
        net = rng.choice(["192.0.2", "198.51.100", "203.0.113"])
        return (Host(f"10.1.{rng.choice([1, 1, 1, 2])}.{rng.choice(clients)}", port), Host(f"{net}.{rng.choice(servers)}", service))

    for _ in range(conversations):
        at = rng.uniform(0, span * 0.85)
        port = rng.randint(32768, 60999)
        vlan = rng.choice([10, 20]) if rng.random() < vlan_share else 0
        tos = rng.choice([0, 0, 0, 0, 0x28, 0xB8, 2])
        kw = {"vlan": vlan, "tos": tos}
        kind = rng.choices(["web", "plain", "names", "time", "quic", "shell", "mail", "ping", "scan", "large", "closed", "rare"],
                           [26, 8, 24, 5, 8, 2, 3, 7, 6, 4, 3, 4])[0]
        if kind in ("web", "plain"):
            client, server = ends(port, 443 if kind == "web" else 80)
            tail = min(int(600 * rng.paretovariate(0.9)), 24000)
            sizes = [rng.randint(200, 700), tail] if rng.random() < 0.7 else [300, 3000, 80, tail, 400, tail // 2]
            tcp_conversation(wire, at, client, server, sizes, tos, vlan, "reset" if rng.random() < 0.05 else "fin")
        elif kind == "shell":
            client, server = ends(port, 22)
            tcp_conversation(wire, at, client, server, [rng.choice([36, 52, 84]) for _ in range(24)], 0x10, vlan)
        elif kind == "mail":
            client, server = ends(port, 25)
            tcp_conversation(wire, at, client, server, [0, 90, 30, 150, 40, 30, rng.randint(1000, 9000), 60], tos, vlan)
        elif kind == "scan":
            client, server = ends(port, rng.choice([23, 445, 3389, 8080, 5900]))
            tcp_conversation(wire, at, client, server, [], 0, vlan, rng.choice(["refused", "unanswered"]))
        elif kind in ("names", "time"):
            client, server = ends(port, 53 if kind == "names" else 123)
            ask, answer = (rng.randint(28, 60), rng.randint(60, 480)) if kind == "names" else (48, 48)
            wire.udp(at, True, client, server, ask, **kw)
            wire.udp(at + 0.02, False, server, client, answer, **kw)
        elif kind == "quic":
            client, server = ends(port, 443)
            for step in range(rng.randint(2, 12)):
                wire.udp(at + step * 0.03, True, client, server, rng.randint(40, 1200), **kw)
                wire.udp(at + step * 0.03 + 0.015, False, server, client, 1200, **kw)
        elif kind == "ping":
            client, server = ends(0, 0)
            ask, answer = (128, 129) if client.v6 else (8, 0)
            for step in range(rng.randint(1, 4)):
                rest = struct.pack("!HH", port, step) + bytes(56)
                wire.icmp(at + step * 0.2, True, client, server, ask, 0, rest, **kw)
                wire.icmp(at + step * 0.2 + 0.01, False, server, client, answer, 0, rest, **kw)
        elif kind == "large":
            client, server = ends(port, rng.choice([2049, 5004]))
            wire.udp(at, True, client, server, 120, **kw)
            wire.udp(at + 0.004, False, server, client, rng.randint(1600, 7000), **kw)
        elif kind == "closed":
            client, server = ends(port, rng.choice([161, 514, 69]))
            wire.udp(at, True, client, server, 60, **kw)
            kind_code = (1, 4) if client.v6 else (3, 3)
            wire.icmp(at + 0.01, False, server, client, *kind_code, bytes(4) + wire.frames[-1][1][18 if vlan else 14:][:56], **kw)
        else:
            client, server = ends(0, 0)
            for step in range(rng.randint(1, 5)):
                protocol, size = rng.choice([(47, 120), (50, 200), (132, 48)])
                body = struct.pack("!HHI", 2905, 2905, step) + bytes(size) if protocol == 132 else bytes(4) + struct.pack("!I", port) + bytes(size)
                wire.packet(at + step * 0.1, step % 2 == 0, *((client, server) if step % 2 == 0 else (server, client)), protocol, body, **kw)
    wire.frames.sort(key=lambda f: f[0])
    return wire.frames


def save(path, frames, start):
    """Writes frames as a pcap whose first instant is `start` (whole seconds)."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for at, frame in frames:
            us = round(at * 1e6)
            f.write(struct.pack("<IIII", start + us // 1_000_000, us % 1_000_000, len(frame), len(frame)) + frame)
