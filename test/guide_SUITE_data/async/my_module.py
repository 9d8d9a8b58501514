import asyncio


async def long_generator():
    for i in range(1_000_000_000):
        await asyncio.sleep(0)
        yield i
