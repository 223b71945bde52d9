#!/usr/bin/env python3
"""What is in a capture of export packets, record by record: a plain decoder that shares nothing with flowlane's.

    reference.py FILE.pcap          the records, one JSON object a line

A line: `pkt` frame number from 1, `ip` exporter, `ver`, `dom` domain, `set` index of the set in the message, `tid` template id,
`kind` data or options, `nscope` scope fields, `off` and `len` in the UDP payload, `fields` `[[pen, id, length, hex], ...]` in wire
order; `late` where the set came before its template. It reads what well-behaved exporters write and stops with an error at
anything else: a recording that it cannot read whole is not a fixture.
"""
import ipaddress
import json
import struct
import sys

FIXED = {  # element and length of each field; padding and what has no element is 210
    5: "8:4 12:4 15:4 10:2 14:2 2:4 1:4 22:4 21:4 7:2 11:2 210:1 6:1 4:1 5:1 16:2 17:2 9:1 13:1 210:2",
    1: "8:4 12:4 15:4 10:2 14:2 2:4 1:4 22:4 21:4 7:2 11:2 210:2 4:1 5:1 6:1 210:3 210:4",
}
FIXED[7] = FIXED[5] + " 210:4"
FIXED = {version: [tuple(map(int, f.split(":"))) for f in text.split()] for version, text in FIXED.items()}


def datagrams(path):
    """(frame number, time in seconds, exporter address, source port, UDP payload) of each frame of an Ethernet pcap."""
    with open(path, "rb") as f:
        head = f.read(24)
        assert head[:4] == b"\xd4\xc3\xb2\xa1" and struct.unpack("<I", head[20:])[0] == 1, "a little-endian Ethernet pcap"
        number = 0
        while entry := f.read(16):
            seconds, micros, kept, length = struct.unpack("<IIII", entry)
            frame = f.read(kept)
            number += 1
            assert kept == length, "whole frames"
            kind, packet = frame[12:14], frame[14:]
            if kind == b"\x08\x00":
                ip = str(ipaddress.IPv4Address(packet[12:16]))
                assert packet[9] == 17 and not struct.unpack("!H", packet[6:8])[0] & 0x3FFF, "UDP, no fragment"
                udp = packet[(packet[0] & 15) * 4:]
            else:
                assert kind == b"\x86\xdd" and packet[6] == 17, "UDP over IPv6"
                ip, udp = str(ipaddress.IPv6Address(packet[8:24])), packet[40:]
            port, _, length = struct.unpack("!HHH", udp[:6])
            assert 8 < length <= len(udp)
            yield number, seconds + micros / 1e6, ip, port, udp[8:length]


class Cursor:
    """A place in a datagram; every read moves it."""

    def __init__(self, data, at, end):
        self.data, self.at, self.end = data, at, end

    def left(self):
        return self.end - self.at

    def take(self, n):
        assert self.left() >= n, f"{n} bytes at {self.at}"
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")


class Reference:
    """Reads datagrams in order, keeps templates, collects records."""

    def __init__(self):
        self.templates, self.waiting, self.records, self.headers = {}, {}, [], {}

    def datagram(self, pkt, ip, port, data):
        version = int.from_bytes(data[:2], "big")
        base = {"pkt": pkt, "ip": ip, "ver": version}
        if version in FIXED:
            return self.fixed(base, data)
        assert version in (9, 10), f"version {version}"
        length, self.headers[pkt] = int.from_bytes(data[2:4], "big"), data[:20 if version == 9 else 16]
        assert version == 9 or length == len(data), "the IPFIX header's length"
        base["dom"] = int.from_bytes(data[16:20] if version == 9 else data[12:16], "big")
        where, index = (20 if version == 9 else 16), 0
        while where < len(data):
            set_id, size = struct.unpack("!HH", data[where:where + 4])
            assert size >= 4 and where + size <= len(data), f"set of {size} bytes at {where}"
            cursor = Cursor(data, where + 4, where + size)
            key = (ip, port, version, base["dom"])
            if set_id in ((0, 1) if version == 9 else (2, 3)):
                self.template_set(key, set_id in (1, 3), cursor)
            else:
                assert set_id >= 256, f"set id {set_id}"
                line = {**base, "set": index, "tid": set_id}
                if key + (set_id,) in self.templates:
                    self.data_set(line, self.templates[key + (set_id,)], cursor)
                else:
                    self.waiting.setdefault(key + (set_id,), []).append((line, cursor))
            where, index = where + size, index + 1

    def fixed(self, base, data):
        start = 16 if base["ver"] == 1 else 24
        count, size = int.from_bytes(data[2:4], "big"), sum(n for _, n in FIXED[base["ver"]])
        assert len(data) == start + count * size, "the header's count"
        line = {**base, "dom": int.from_bytes(data[20:22], "big") if base["ver"] == 5 else 0, "set": 0, "tid": 0}
        template = ("data", 0, [(0, element, length) for element, length in FIXED[base["ver"]]])
        self.headers[base["pkt"]] = data[:start]
        self.data_set(line, template, Cursor(data, start, len(data)))

    def template_set(self, key, options, cursor):
        while cursor.left() >= 4:
            tid, count, scopes = cursor.number(2), cursor.number(2), 0
            if tid < 256:
                return  # padding
            if options and key[2] == 9:
                scopes, count = count // 4, (count + cursor.number(2)) // 4
            elif options:
                scopes = cursor.number(2)
            assert count, "a template of no fields"
            fields = []
            for _ in range(count):
                element, length, pen = cursor.number(2), cursor.number(2), 0
                if key[2] == 10 and element >= 0x8000:
                    element, pen = element - 0x8000, cursor.number(4)
                fields.append((pen, element, length))
            template = self.templates[key + (tid,)] = ("options" if options else "data", scopes, fields)
            for line, held in self.waiting.pop(key + (tid,), []):
                self.data_set({**line, "late": True}, template, held)

    def data_set(self, line, template, cursor):
        kind, scopes, fields = template
        shortest = sum(1 if length == 65535 else length for _, _, length in fields)
        assert shortest > 0
        while cursor.left() >= shortest:
            start, values = cursor.at, []
            for pen, element, length in fields:
                if length == 65535:
                    length = cursor.number(1)
                    if length == 255:
                        length = cursor.number(2)
                values.append([pen, element, length, cursor.take(length).hex()])
            self.records.append({**line, "kind": kind, "nscope": scopes, "off": start, "len": cursor.at - start, "fields": values})


def read(path):
    """The reference after the whole capture; fails where a set never got its template."""
    reference = Reference()
    for pkt, _, ip, port, data in datagrams(path):
        reference.datagram(pkt, ip, port, data)
    assert not reference.waiting, "data without template"
    return reference


if __name__ == "__main__":
    for record in read(sys.argv[1]).records:
        print(json.dumps(record, separators=(",", ":")))
