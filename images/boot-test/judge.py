"""What a power cut left of a box, judged on the host: the file system, the log, the certificates that devices had in hand, and
whether the program goes on from there: it is served, from its own store, index and token, and a device that has an
account since before the cut gets another certificate."""

import glob
import os
import re
import shutil
import signal
import subprocess
import time

from cable import BOX, NAME
from run import REPOSITORY, demand, run

# mke2fs and debugfs are not on everybody's path.
ENVIRONMENT = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
# The box's own account, from before anything was recorded.
DEVICE = "device.boot.test"
# The box's own, but for paths, addresses, and the two users, whom the host does not have.
CONFIGURATION = """inherit = ["{repository}/firmware-config/base.toml"]
token = "{repository}/hsm/token/softhsm2.toml"
[board]
production = false
[state]
dir = "{state}"
pin = {{ file = "{pin}" }}
[web]
base-url = "https://{name}"
listen = ["{box}:443"]
listen-http = ["{box}:80"]
listen-metrics = ["127.0.0.1:9443"]
[issuer]
tls-names = ["{name}", "ca.local"]
clock-jump-hours = 168
"""


def certificates(text):
    """The PEM certificates in it, each as its base64 alone."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.S)
    return ["".join(body.split()) for body in found]


class Judge:
    """Has the program, the other end of the cable, and the token's files as they were before the record began."""

    def __init__(self, program, work, cable, data):
        self.program, self.work, self.cable = program, work, cable
        self.state = f"{work}/state"
        self.emptied = 0
        self.longest = 0.0
        self.spare = f"{work}/token"
        # The machine was switched off, so the journal has to be replayed here too.
        before = f"{work}/before.img"
        run("cp", "--sparse=always", data, before)
        self.mend(before)
        self.dump(before, "/lib/chancery-token", self.spare)
        self.dump(before, "/lib/chancery-box", f"{work}/box")
        os.remove(before)

    def mend(self, image):
        """As the initramfs does: what e2fsck would have to ask about is a failure."""
        mended = self.e2fsck("-f", "-p", image)
        demand(mended.returncode in (0, 1), f"e2fsck: {mended.stdout.decode()[-2000:]}")
        again = self.e2fsck("-f", "-n", image)
        demand(again.returncode == 0, f"e2fsck afterwards: {again.stdout.decode()[-2000:]}")

    def e2fsck(self, *words):
        return subprocess.run(["e2fsck", *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def dump(self, image, path, to):
        """The directory `path` of the file system in `image`, as root's own."""
        for left in (to, f"{to}.new"):
            shutil.rmtree(left, ignore_errors=True)
        os.makedirs(f"{to}.new")
        run("debugfs", "-R", f"rdump {path} {to}.new", image, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.rename(f"{to}.new/{os.path.basename(path)}", to)
        os.rmdir(f"{to}.new")
        run("chown", "-R", "0:0", to)

    def chancery(self, *words, **more):
        environment = dict(os.environ, CHANCERY_CONFIG=f"{self.work}/chancery.toml", SOFTHSM2_CONF=f"{self.work}/softhsm2.conf")
        return subprocess.Popen([self.program, *words], env=environment, text=True, **more)

    def said(self, *words):
        """What a command prints; it must end well."""
        process = self.chancery(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, why = process.communicate(timeout=300)
        demand(process.returncode == 0, f"chancery {' '.join(words)}: {out[-1000:]}{why[-2000:]}")
        return out

    def log_has(self, held):
        self.said("log", "verify")
        there = set(certificates(self.said("log", "export", "--format", "pem")))
        missing = [body for body in held if body not in there]
        demand(not missing, f"{len(missing)} of {len(held)} certificates that devices have are not in the log: {missing[:2]}")

    def judge(self, image, held):
        """The file system in `image`, which is mended by it; `held`: the certificates that devices had by then."""
        self.mend(image)
        self.dump(image, "/lib/chancery", self.state)
        self.put_token(image)
        with open(f"{self.work}/chancery.toml", "w") as file:
            file.write(CONFIGURATION.format(repository=REPOSITORY, state=self.state, pin=f"{self.work}/box/etc/pin", name=NAME, box=BOX))
        self.log_has(held)
        self.log_has(held + [self.serve()])

    def put_token(self, image):
        """SoftHSM2 empties token.object for a moment at each login (hsm/token/softhsm2.toml). That is no loss of the box's,
        so what is empty comes from before, and is counted."""
        token = f"{self.work}/crashed-token"
        self.dump(image, "/lib/chancery-token", token)
        for path in glob.glob(f"{token}/tokens/*/token.object"):
            if os.path.getsize(path) == 0:
                shutil.copy(self.spare + path[len(token):], path)
                self.emptied += 1
        with open(f"{self.work}/softhsm2.conf", "w") as file:
            file.write(f"directories.tokendir = {token}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")

    def serve(self):
        """Starts the program on that state, as a box starts it; a device's new certificate."""
        # While the machine is off, its address is here.
        run("ip", "addr", "add", f"{BOX}/32", "dev", "lo")
        said = open(f"{self.work}/serve.log", "w")
        began = time.monotonic()
        process = self.chancery("serve", stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while self.chancery("status", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() != 0:
                demand(process.poll() is None and time.monotonic() - began < 180, f"it does not serve: {self.words()}")
                time.sleep(0.2)
            self.longest = max(self.longest, time.monotonic() - began)
            try:
                self.cable.enrol(name=DEVICE, fresh=True)
            except RuntimeError as why:
                raise AssertionError(f"{why}\n{self.words()}") from why
            with open(self.cable.leaf(DEVICE)) as file:
                return certificates(file.read())[0]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            said.close()
            run("ip", "addr", "del", f"{BOX}/32", "dev", "lo")

    def words(self):
        with open(f"{self.work}/serve.log") as file:
            return file.read()[-3000:]
