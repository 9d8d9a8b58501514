import asyncio


async def generate_tokens(prompt):
    for token in prompt.split():
        await asyncio.sleep(0.001)
        yield token + " "
    if prompt == "":
        raise ValueError("empty prompt")
