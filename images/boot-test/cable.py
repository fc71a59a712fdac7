"""The other side of the machine's cable: an address, DHCP and DNS by dnsmasq, and a device that enrols with lego. Runs in
a network and mount namespace of its own, so ports and names are the test's alone."""

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import urllib.request

FAR_END, BOX = "10.99.0.1", "10.99.0.2"
NAME = "ca.boot.test"
# Each answers its challenges at port 80 of an address of its own.
DEVICES = {"device.boot.test": FAR_END} | {f"device-{n}.boot.test": f"10.99.0.{10 + n}" for n in range(16)}


class Cable:
    def __init__(self, work):
        self.work = work
        for command in (
            "ip link set lo up",
            "ip tuntap add cable mode tap",
            f"ip addr add {FAR_END}/24 dev cable",
            *(f"ip addr add {address}/24 dev cable" for address in set(DEVICES.values()) - {FAR_END}),
            "ip link set cable up",
            "ip route add 224.0.0.0/4 dev cable",
        ):
            subprocess.run(command.split(), check=True)
        for name, text in (("hosts", f"127.0.0.1 localhost\n{BOX} {NAME}\n"), ("resolv.conf", f"nameserver {FAR_END}\n")):
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

    def leaf(self, name):
        """The file of a device's certificate, and its chain."""
        return f"{self.work}/{name}/certificates/{name}.crt"

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
        leaf = self.leaf(name)
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
