import asyncio


async def read_lines(path):
    with open(path) as file:
        while line := await asyncio.to_thread(file.readline):
            yield line.rstrip("\n")
