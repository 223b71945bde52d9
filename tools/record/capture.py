#!/usr/bin/env python3
"""Keeps every UDP datagram that comes in on an interface for a port, as a pcap, until it is told to stop.

    capture.py INTERFACE PORT FILE

The port is bound too, though never read, so that exporters get no ICMP errors back.
"""
import signal
import socket
import struct
import sys
import time

device, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sink = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sink.bind(("::", port))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
wire.bind((device, 3))
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with open(path, "wb") as out:
    out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    while True:
        frame, (_, _, packet_type, *_) = wire.recvfrom(65535)
        ns = time.time_ns()
        packet = frame[14:]
        if frame[12:14] == b"\x08\x00" and packet[9] == 17:
            udp = packet[(packet[0] & 15) * 4:]
        elif frame[12:14] == b"\x86\xdd" and packet[6] == 17:
            udp = packet[40:]
        else:
            continue
        if packet_type == 4 or struct.unpack("!H", udp[2:4])[0] != port:  # sent from here, or another's
            continue
        out.write(struct.pack("<IIII", ns // 10**9, ns // 1000 % 10**6, len(frame), len(frame)) + frame)
        out.flush()
