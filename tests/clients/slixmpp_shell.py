"""A slixmpp user who is told what to do, a line each, and answers with a line each:
`ok`, with what there is to say, or `failed` and why.

python3 slixmpp_shell.py JID HOST:PORT CACERTFILE; the first line is the password."""

import asyncio
import sys

from slixmpp_user import User


async def main(jid, address, cacertfile):
    lines = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    password = await next_line(lines)
    host, port = address.rsplit(":", 1)
    user = await User.login(jid, password, (host, int(port)), cacertfile)
    answer(f"ok {user.boundjid}")
    commands = {
        "say": lambda to, text: now(user.say(to, text)),
        "hear": user.hear,
        "receipt": user.receipt,
        "befriend": user.befriend,
        "show": lambda show: now(user.send_presence(pshow=show)),
        "see": lambda sender, show: user.presence(sender, show=show or None),
        "see-leave": lambda sender: user.presence(sender, "unavailable"),
        "ping": lambda to: user["xep_0199"].ping(to),
        "received": lambda: now(" ".join(user.received).replace("\n", " ")),
    }
    while line := await next_line(lines):
        command, *arguments = line.split(" ", 2)
        try:
            said = await commands[command](*arguments)
            answer(f"ok {said}" if isinstance(said, str) else "ok")
        except Exception as error:
            answer(f"failed {error!r}")
    await user.logout()


async def next_line(lines):
    return (await lines.readline()).decode().rstrip("\n")


async def now(value):
    return value


def answer(text):
    print(text, flush=True)


asyncio.run(main(*sys.argv[1:]))
