import asyncio


async def inner():
    await asyncio.sleep(0)
    raise LookupError("async")


async def outer():
    await inner()


asyncio.run(outer())
