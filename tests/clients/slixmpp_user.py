"""A user whose client is slixmpp, which we did not write. Waits for facts, never for time."""

import asyncio
import logging
import sys
from pathlib import Path

# It warns that it could be faster.
logging.getLogger("slixmpp.stringprep").setLevel(logging.ERROR)

import slixmpp  # noqa: E402

# What goes wrong in a library that swallows its handlers' errors shall be seen.
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

# How long anything may take; far more than it does.
PATIENCE = 60

CHAT = "{jabber:client}message"
RECEIPT = "{urn:xmpp:receipts}received"


class User(slixmpp.ClientXMPP):
    """One session. What it receives stays in `inbox` until somebody takes it."""

    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.inbox = []
        # All of it, for those who look for what must not be there.
        self.received = []
        self.texts = []
        self._changed = asyncio.Event()
        self._failure = None
        self.register_plugin("xep_0184")
        self.register_plugin("xep_0199")
        self.add_filter("in", self._receive)
        self.add_event_handler("failed_all_auth", lambda _: self._fail("the password is refused"))
        self.add_event_handler("ssl_invalid_chain", lambda error: self._fail(error))
        self.add_event_handler("disconnected", lambda why: self._fail(f"disconnected: {why}"))

    async def get_dns_records(self, domain, port=None):
        """The address is told; the domain need not be known to anybody's DNS."""
        return []

    @classmethod
    async def login(cls, jid, password, address, cacertfile):
        """Logs in over TLS that is verified, fetches the roster and is available."""
        user = cls(jid, password)
        user.ca_certs = Path(cacertfile)
        started = asyncio.Event()
        user.add_event_handler("session_start", lambda _: started.set())
        user.connect(address)
        await user._wait("the session to begin", lambda: started.is_set() or None)
        await user.get_roster()
        user.send_presence()
        await user.presence(str(user.boundjid))
        return user

    async def logout(self):
        """Ends the stream, and waits until the server has, too."""
        self._fail = lambda why: None
        await self.disconnect(wait=5)

    def say(self, to, text):
        """Sends a chat that asks for a receipt; returns its id."""
        message = self.make_message(mto=to, mbody=text, mtype="chat")
        message["id"] = self.new_id()
        message["request_receipt"] = True
        message.send()
        return message["id"]

    async def hear(self, sender, text):
        """Takes the message with that text from that user, whichever the resource."""
        return await self.take(
            f"{text!r} from {sender}",
            lambda stanza: stanza.tag == CHAT
            and stanza.get("type") != "error"
            and stanza.findtext("{jabber:client}body") == text
            and bare(stanza) == sender,
        )

    def heard(self, text):
        """How many times it has come."""
        return self.texts.count(text)

    async def receipt(self, sender, identifier):
        """Takes the receipt for a message that was sent to that user."""
        return await self.take(
            f"a receipt of {sender}",
            lambda stanza: stanza.tag == CHAT
            and bare(stanza) == sender
            and any(child.get("id") == identifier for child in stanza.iter(RECEIPT)),
        )

    async def error(self, identifier):
        """Takes the error about a message; returns its condition."""
        stanza = await self.take(
            f"an error about {identifier}",
            lambda stanza: stanza.tag == CHAT
            and stanza.get("type") == "error"
            and stanza.get("id") == identifier,
        )
        return stanza.find("{jabber:client}error")[0].tag.split("}")[1]

    async def presence(self, sender, kind=None, show=None):
        """Takes a presence of that type and show."""
        return await self.take(
            f"{kind or show or 'available'} presence of {sender}",
            lambda stanza: stanza.tag == "{jabber:client}presence"
            and stanza.get("type") == kind
            and stanza.findtext("{jabber:client}show") == show
            and sender in (bare(stanza), stanza.get("from")),
        )

    async def befriend(self, contact):
        """Subscribes to them; slixmpp at the other end allows it and subscribes in return."""
        self.send_presence(pto=contact, ptype="subscribe")
        await self.presence(contact, "subscribed")
        await self.presence(contact)

    async def take(self, what, wanted):
        """Takes the first stanza in the inbox that is wanted, and waits for it if need be."""

        def look():
            for stanza in self.inbox:
                if wanted(stanza):
                    self.inbox.remove(stanza)
                    return stanza
            return None

        return await self._wait(what, look)

    async def _wait(self, what, look):
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (found := look()) is None:
            if self._failure:
                raise AssertionError(f"{self.jid} waited for {what}: {self._failure}")
            self._changed.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                # An event of the session's begin does not set the flag: look now and then.
                await asyncio.wait_for(self._changed.wait(), min(left, 0.2))
            except asyncio.TimeoutError:
                if left <= 0:
                    seen = "\n  ".join(slixmpp.xmlstream.tostring(x) for x in self.inbox)
                    raise AssertionError(
                        f"{self.jid} waited {PATIENCE} s for {what}; there are:\n  {seen}"
                    ) from None
        return found

    def _receive(self, stanza):
        self.inbox.append(stanza.xml)
        self.received.append(str(stanza))
        if stanza.xml.tag == CHAT and stanza.xml.get("type") != "error":
            self.texts.append(stanza.xml.findtext("{jabber:client}body"))
        self._changed.set()
        return stanza

    def _fail(self, why):
        self._failure = why
        self._changed.set()


def bare(stanza):
    """The bare JID that it is from."""
    return stanza.get("from", "").split("/")[0]
