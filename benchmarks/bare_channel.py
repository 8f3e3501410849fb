"""The floor of a workflow's calls: forked processes that do nothing but send a request, sleep until the answer is there, and ask again."""

import asyncio
import os
import random
import socket
import time

REQUEST, ANSWER = b"x" * 120, b"y" * 300


def asking(sock: socket.socket, calls: int) -> None:
    """What the forked process does; it does not return."""
    for _ in range(calls):
        sock.sendall(REQUEST)
        sock.recv(4096)
    os._exit(0)


async def bare_run(seed: int, calls: int, mean_s: float, sigma: float) -> float:
    """Seconds that one such process takes beyond the lognormal times for which its answers are held back."""
    loop, draw = asyncio.get_running_loop(), random.Random(seed)
    ours, theirs = socket.socketpair()
    began_s, held_s = time.monotonic(), 0.0
    pid = os.fork()
    if not pid:
        ours.close()
        asking(theirs, calls)
    theirs.close()
    ours.setblocking(False)
    try:
        for _ in range(calls):
            await loop.sock_recv(ours, 4096)
            asked_s = time.monotonic()
            await asyncio.sleep(mean_s * draw.lognormvariate(-(sigma**2) / 2, sigma))
            held_s += time.monotonic() - asked_s
            ours.send(ANSWER)
        return time.monotonic() - began_s - held_s
    finally:
        ours.close()
        os.waitpid(pid, 0)


async def bare_overheads(at_once: int, spread_s: float, calls: int, mean_s: float, sigma: float) -> list[float]:
    """As many of them, started over ``spread_s`` seconds."""

    async def one(seed: int) -> float:
        await asyncio.sleep(spread_s * seed / at_once)
        return await bare_run(seed, calls, mean_s, sigma)

    return list(await asyncio.gather(*map(one, range(at_once))))
