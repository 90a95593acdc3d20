"""The containers of one project: asked, cut off, returned."""

import asyncio
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "clients"))

from slixmpp_user import PATIENCE, User  # noqa: E402

PASSWORD = "wonderland"
BEGUN = time.monotonic()

# As many came as went, at each gateway (docs/delivery.md).
CAME = ("taken_total", "returned_total", "copied_total")
WENT = (
    "reinjected_total",
    "forwarded_total",
    "answered_total",
    "absorbed_total",
    "refused_total",
    "held",
)


def say(what):
    """Tells what happens, and when."""
    print(f"  {time.monotonic() - BEGUN:6.1f} s  {what}", flush=True)


def docker(*arguments):
    """Runs docker; returns what it prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


async def until(what, look):
    """Waits until `look` does not fail any more; returns what it gives."""
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        try:
            return await asyncio.to_thread(look)
        except AssertionError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {what}; instead: {error}") from error
            await asyncio.sleep(0.2)


class Containers:
    """What one compose file has started, under the project's name."""

    def __init__(self, project, numbers):
        self.project = project
        self.hosts = {f"dc{n}": f"dc{n}.example.com" for n in numbers}
        self.users = []
        self.cacertfile = Path(os.environ["CLIENTS_CA"])
        self.cacertfile.write_text(
            docker("exec", self.name("dc1-gateway"), "cat", "/keys/clients-ca.pem")
        )

    def name(self, service):
        """The container of that service."""
        names = docker(
            "ps", "--all", "--format", "{{.Names}}",
            "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).split()  # fmt: skip
        assert len(names) == 1, f"containers of {service}: {names}"
        return names[0]

    def ask(self, dc, path):
        """What the gateway of a datacenter answers."""
        return docker("exec", self.name(f"{dc}-gateway"), "ask", path)

    async def until_ready(self):
        """Every gateway is attached, and linked with all others."""
        for dc in self.hosts:
            await until(f"the gateway of {dc} to be ready", lambda dc=dc: self.ask(dc, "/readyz"))
            for other in self.hosts.values():
                if other != self.hosts[dc]:
                    await self.until_link(dc, other, up=True)

    async def until_link(self, dc, host, up):
        """The gateway of `dc` has a link to `host`, or none any more."""

        def look():
            links = self.metric(dc, f'strait_links_up{{host="{host}"}}')
            assert (links > 0) == up, f"{links} links"

        await until(f"the link from {dc} to {host} to be {'up' if up else 'down'}", look)

    def metric(self, dc, prefix):
        """The sum of the gateway's metrics whose lines begin so."""
        lines = self.ask(dc, "/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(prefix))

    async def login(self, name, dc):
        """Logs a user in, at the port that is published on this machine."""
        host, port = docker("port", self.name(f"{dc}-server"), "5222").split()[0].rsplit(":", 1)
        jid = f"{name}@{self.hosts[dc]}/slixmpp"
        user = await User.login(jid, PASSWORD, (host, int(port)), self.cacertfile)
        self.users.append(user)
        return user

    def cut_off(self, dc, networks):
        """Takes the gateway of `dc` off these networks."""
        for network in networks:
            network = f"{self.project}_{network}"
            docker("network", "disconnect", network, self.name(f"{dc}-gateway"))

    def give_back(self, dc, networks):
        """Puts it on them again, under its name."""
        gateway = f"{dc}-gateway"
        for network in networks:
            network = f"{self.project}_{network}"
            docker("network", "connect", "--alias", gateway, network, self.name(gateway))

    async def assert_balanced(self):
        """Every gateway accounts for everything that it took in."""
        for dc in self.hosts:
            await until(f"the counters of {dc} to balance", lambda dc=dc: self._balance(dc))

    def _balance(self, dc):
        lines = self.ask(dc, "/metrics").splitlines()

        def count(names):
            wanted = tuple(f"strait_stanzas_{name}" for name in names)
            lines_of = [line for line in lines if line.startswith(wanted)]
            assert lines_of, f"none of {wanted}"
            return sum(float(line.split()[-1]) for line in lines_of)

        came, went = count(CAME), count(WENT)
        assert came == went, f"{came} came and {went} went"

    def assert_no_leaks(self):
        """Nobody has seen another datacenter's name."""
        assert self.users
        for user in self.users:
            for host in self.hosts.values():
                if host != user.boundjid.host:
                    leaks = [text for text in user.received if host in text]
                    assert not leaks, f"{user.boundjid} saw {leaks}"

    async def until_healthy(self):
        """Docker, too, finds each gateway well, which it looks at now and then."""

        def look():
            for dc in self.hosts:
                state = json.loads(docker("inspect", self.name(f"{dc}-gateway")))[0]["State"]
                assert state["Health"]["Status"] == "healthy", f"{dc}: {state['Health']}"

        await until("the gateways to be healthy", look)


async def talk(one, its_name, other, other_name):
    """A chat with receipts, both ways."""
    for sender, sender_name, reader, reader_name in (
        (one, its_name, other, other_name),
        (other, other_name, one, its_name),
    ):
        text = f"Hello {reader_name}, here is {sender_name}! <&> 😀 {sender.new_id()}"
        identifier = sender.say(reader_name, text)
        await reader.hear(sender_name, text)
        await sender.receipt(reader_name, identifier)


def tell(story):
    """Runs a story; the exit code says how it ended."""
    try:
        asyncio.run(story(sys.argv[1]))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
