"""The story of two datacenters in containers: users meet, talk, leave and come back.

python3 two_datacenters.py PROJECT, with the containers of that project up."""

import json

from containers import Containers, say, talk, tell, until

ALICE = "alice@example.com"
BOB = "bob@example.com"
CAROL = "carol@example.com"


async def story(project):
    dcs = Containers(project, (1, 2))
    await dcs.until_ready()
    say("both gateways are ready and linked")
    alice = await dcs.login("alice", "dc1")
    bob = await dcs.login("bob", "dc2")
    say("alice is logged in at dc1's Prosody, bob at dc2's ejabberd")
    await talk(alice, ALICE, bob, BOB)
    say("they chat, with receipts")

    await alice.befriend(BOB)
    await bob.presence(ALICE)
    alice.send_presence(pshow="dnd")
    await bob.presence(ALICE, show="dnd")
    say("they are each other's contacts and see each other's presence")

    await bob.logout()
    await alice.presence(BOB, "unavailable")
    alice.say(BOB, "Read this when you are back.")
    bob = await dcs.login("bob", "dc2")
    await bob.hear(ALICE, "Read this when you are back.")
    say("what was written to bob while he was away is there when he is back")

    carol = await dcs.login("carol", "dc1")
    await talk(carol, CAROL, bob, BOB)
    await carol.logout()
    carol = await dcs.login("carol", "dc2")
    await until("carol to be at dc2", lambda: at_dc2(dcs, CAROL))
    await talk(alice, ALICE, carol, CAROL)
    say("carol has moved from dc1 to dc2, and is reached there")

    await dcs.assert_balanced()
    dcs.assert_no_leaks()
    await dcs.until_healthy()
    say("every stanza is accounted for, and nobody saw another datacenter's name")
    for user in (alice, bob, carol):
        await user.logout()


def at_dc2(dcs, jid):
    """Whether dc1's gateway knows that they are at dc2."""
    claims = json.loads(dcs.ask("dc1", f"/api/lookup/{jid}"))["claims"]
    assert [claim["host"] for claim in claims] == ["dc2.example.com"], claims


tell(story)
