"""The story of three datacenters in containers, one of which is cut off and returns.

python3 three_datacenters.py PROJECT, with the containers of that project up."""

import asyncio
from itertools import combinations

from containers import Containers, say, talk, tell

ALICE = "alice@example.com"
BOB = "bob@example.com"
CAROL = "carol@example.com"
DAVE = "dave@example.com"

# What binds dc3 to the others: their gateways, and the session table.
WAYS = ("links", "table")


async def story(project):
    dcs = Containers(project, (1, 2, 3))
    await dcs.until_ready()
    say("three gateways are ready and linked, their session table is in Redis")
    alice = await dcs.login("alice", "dc1")
    bob = await dcs.login("bob", "dc2")
    carol = await dcs.login("carol", "dc3")
    people = ((alice, ALICE), (bob, BOB), (carol, CAROL))
    for (one, its_name), (other, other_name) in combinations(people, 2):
        await talk(one, its_name, other, other_name)
        await one.befriend(other_name)
        await other.presence(its_name)
    say("alice at dc1, bob at dc2 and carol at dc3 chat in all six directions, as contacts")

    dcs.cut_off("dc3", WAYS)
    say("dc3 is cut off: from the other gateways, and from Redis")
    lost = alice.say(CAROL, "You won't get this.")
    await talk(alice, ALICE, bob, BOB)
    dave = await dcs.login("dave", "dc3")
    await talk(carol, CAROL, dave, DAVE)
    say("dc1 and dc2 still talk, and so do users within dc3, one of whom has just come")

    condition = await alice.error(lost)
    assert condition == "remote-server-timeout", condition
    say("what can't be delivered comes back to alice: remote-server-timeout")

    alice.say(CAROL, "You get this when the way is back.")
    bob.say(CAROL, "And this.")
    carol.say(ALICE, "I am still here.")
    carol.send_presence(pshow="dnd")
    dcs.give_back("dc3", WAYS)
    await asyncio.gather(
        carol.hear(ALICE, "You get this when the way is back."),
        carol.hear(BOB, "And this."),
        alice.hear(CAROL, "I am still here."),
        alice.presence(CAROL, show="dnd"),
        bob.presence(CAROL, show="dnd"),
    )
    say("dc3 is back: what was on its way arrives, in both directions, presence too")

    await dcs.until_ready()
    for (one, its_name), (other, other_name) in combinations((*people, (dave, DAVE)), 2):
        await talk(one, its_name, other, other_name)
    for user, text, times in (
        (carol, "You won't get this.", 0),
        (carol, "You get this when the way is back.", 1),
        (carol, "And this.", 1),
        (alice, "I am still here.", 1),
    ):
        assert user.heard(text) == times, f"{user.boundjid} heard {text!r} {user.heard(text)} times"
    say("everybody talks to everybody, also to dave; nothing came twice")

    await dcs.assert_balanced()
    dcs.assert_no_leaks()
    await dcs.until_healthy()
    say("every stanza is accounted for, and nobody saw another datacenter's name")
    for user in (alice, bob, carol, dave):
        await user.logout()


tell(story)
