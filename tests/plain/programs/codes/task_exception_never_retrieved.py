# /// plain
# normalize = ["addresses"]
# ///
import asyncio


async def fail():
    raise ValueError("lost")


async def main():
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    del task


asyncio.run(main())
