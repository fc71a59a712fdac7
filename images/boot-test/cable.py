"""The other side of the machine's cable: an address, DHCP and DNS by dnsmasq, a device that enrols with lego, and a
question by multicast DNS. Runs in a network and mount namespace of its own, so ports and names are the test's alone."""

import hashlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import time
import urllib.request

HERE, BOX = "10.99.0.1", "10.99.0.2"
NAME = "ca.boot.test"
# Each answers its challenges at port 80 of an address of its own.
DEVICES = {"device.boot.test": HERE, "after.boot.test": HERE} | {f"device-{n}.boot.test": f"10.99.0.{10 + n}" for n in range(16)}


class Cable:
    def __init__(self, work):
        self.work = work
        for command in (
            "ip link set lo up",
            "ip tuntap add cable mode tap",
            f"ip addr add {HERE}/24 dev cable",
            *(f"ip addr add {address}/24 dev cable" for address in set(DEVICES.values()) - {HERE}),
            "ip link set cable up",
            "ip route add 224.0.0.0/4 dev cable",
        ):
            subprocess.run(command.split(), check=True)
        for name, text in (("hosts", f"127.0.0.1 localhost\n{BOX} {NAME}\n"), ("resolv.conf", f"nameserver {HERE}\n")):
            with open(f"{work}/{name}", "w") as file:
                file.write(text)
            subprocess.run(["mount", "--bind", f"{work}/{name}", os.path.realpath(f"/etc/{name}")], check=True)
        self.dnsmasq = subprocess.Popen(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--interface=cable", "--bind-interfaces",
             "--no-resolv", "--no-hosts", f"--dhcp-host=52:54:00:12:34:56,{BOX}", "--dhcp-range=10.99.0.50,10.99.0.60",
             f"--address=/{NAME}/{BOX}", *(f"--address=/{name}/{address}" for name, address in DEVICES.items()), f"--dhcp-leasefile={work}/leases",
             "--pid-file=", "--user=root", f"--log-facility={work}/dnsmasq.log"])

    def close(self):
        self.dnsmasq.kill()
        self.dnsmasq.wait()

    def root(self):
        """The box's root certificate, to a file; its SHA-256."""
        url = f"http://{NAME}/root.pem"
        pem = urllib.request.urlopen(url, timeout=60).read().decode()
        with open(f"{self.work}/root.pem", "w") as file:
            file.write(pem)
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def enrol(self, verb="run", name="device.boot.test", fresh=False):
        """A device orders, or renews, with lego; its certificate's serial number. `fresh`: anew, with the account it has."""
        place = f"{self.work}/{name}"
        if fresh:
            shutil.rmtree(f"{place}/certificates", ignore_errors=True)
        environment = dict(os.environ, LEGO_CA_CERTIFICATES=f"{self.work}/root.pem")
        command = ["lego", "--server", f"https://{NAME}/acme/directory", "--accept-tos", "--email", "a@boot.test", "--path",
                   place, "--http", "--http.port", f"{DEVICES[name]}:80", "--http-timeout", "120", "--cert.timeout", "120",
                   "--domains", name, verb]
        if verb == "renew":
            command += ["--days", "9999", "--no-random-sleep"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        if done.returncode:
            raise RuntimeError("lego: " + done.stdout.decode(errors="replace")[-3000:])
        leaf = f"{place}/certificates/{name}.crt"
        subprocess.run(["openssl", "verify", "-CAfile", f"{self.work}/root.pem", "-untrusted", leaf, leaf], check=True,
                       stdout=subprocess.DEVNULL)
        said = subprocess.run(["openssl", "x509", "-in", leaf, "-noout", "-serial"], check=True, stdout=subprocess.PIPE)
        return said.stdout.decode().strip().split("=")[1].lower()

    def open_ports(self, ports):
        """Those of `ports` on which the box takes a connection."""
        found = []
        for port in ports:
            with socket.socket() as attempt:
                attempt.settimeout(1)
                if attempt.connect_ex((BOX, port)) == 0:
                    found.append(port)
        return found

    def announced(self, seconds=20):
        """What the box answers to a multicast question for HTTPS services on the link (RFC 6762, RFC 6763)."""
        def name(*labels):
            return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"

        # Which instances there are, and what is said of the one that this box must be.
        service = (b"_https", b"_tcp", b"local")
        question = struct.pack(">6H", 0, 0, 2, 0, 0, 0) + name(*service) + struct.pack(">2H", 12, 1)
        question += name(b"Chancery on ca", *service) + struct.pack(">2H", 16, 1)
        until = time.monotonic() + seconds
        answers = b""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
            asker.bind(("", 5353))
            asker.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                             socket.inet_aton("224.0.0.251") + socket.inet_aton(HERE))
            asker.settimeout(2)
            while time.monotonic() < until and b"directory=" not in answers:
                asker.sendto(question, ("224.0.0.251", 5353))
                try:
                    while True:
                        data, sender = asker.recvfrom(9000)
                        if sender[0] == BOX:
                            answers += data
                except TimeoutError:
                    pass
        return answers
