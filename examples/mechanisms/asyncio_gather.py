"""asyncio.gather: many requests to a server at once, over real sockets; answers come in their order."""

import asyncio
import sysconfig
import zlib
from pathlib import Path

FOLDER = Path(sysconfig.get_path("stdlib"), "json")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's side of one connection: a file's name comes in, its content goes out."""
    try:
        name = (await reader.readline()).decode().strip()
        writer.write(await asyncio.to_thread((FOLDER / name).read_bytes))
        await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


async def checksum(port: int, name: str) -> tuple[int, int]:
    """The client's side: size and checksum of the file, as received."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{name}\n".encode())
        content = await reader.read()
        return len(content), zlib.crc32(content)
    finally:
        writer.close()
        await writer.wait_closed()


async def main() -> None:
    names = sorted(file.name for file in FOLDER.glob("*.py"))
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answers = await asyncio.gather(*(checksum(port, name) for name in names))
    for name, (size, crc) in zip(names, answers, strict=True):
        print(f"{size:8}  {crc:08x}  {name}")


if __name__ == "__main__":
    asyncio.run(main())
