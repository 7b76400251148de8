"""What the road costs by itself: µs of CPU for a keep-alive GET and for a WebSocket message, without sockets.

    python -m tests.benchmarks.road [other/checkout ...]

Prints the fastest of many short rounds: whatever else a machine does only adds to them. With other checkouts of the
project, each is measured too, in turns with this one, and told as a ratio: so a change is compared with what was
before it, on a machine that is not quiet.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
ROUNDS, CALLS = 60, 200
TURNS = 5

REQUEST = b"GET /path?query=1 HTTP/1.1\r\nHost: example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FRAME = b"\x81\x85\x00\x00\x00\x00hello"


async def app(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"5"), (b"x-request-id", b"abcdef")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


async def measure(opening: bytes, piece: bytes) -> float:
    """µs of CPU a piece, from its bytes to the answer's, in the fastest round."""
    from tests.memory import MemoryClient

    client = MemoryClient(app)
    if opening:
        await client.send(opening)
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            client.transport.writes.clear()
            client.connection.data_received(piece)
            while not client.transport.writes:
                await asyncio.sleep(0)
        rounds.append((time.process_time() - began) / CALLS * 1e6)
    return min(rounds)


async def measure_all() -> None:
    print(await measure(b"", REQUEST), await measure(HANDSHAKE, FRAME))


def run_in(checkout: Path) -> list[float]:
    command = [sys.executable, __file__, "--here"]
    told = subprocess.run(
        command, cwd=checkout, env={"PYTHONPATH": str(checkout)}, capture_output=True, check=True
    )
    return [float(word) for word in told.stdout.split()]


def main() -> None:
    checkouts = [HERE, *map(Path, sys.argv[1:])]
    figures: list[list[list[float]]] = [[] for _ in checkouts]
    for _ in range(TURNS):
        for each, found in zip(checkouts, figures, strict=True):
            found.append(run_in(each))
    for at, name in enumerate(("GET", "WebSocket message")):
        first = min(turn[at] for turn in figures[0])
        print(f"{name}: {first:.1f} µs")
        for each, found in zip(checkouts[1:], figures[1:], strict=True):
            other = min(turn[at] for turn in found)
            print(f"  {each}: {other:.1f} µs; this one takes {first / other:.2f} of it")


if __name__ == "__main__":
    if sys.argv[1:] == ["--here"]:
        asyncio.run(measure_all())
    else:
        main()
