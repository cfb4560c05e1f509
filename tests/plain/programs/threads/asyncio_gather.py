import asyncio


async def work(n):
    await asyncio.sleep(0.01 * (3 - n))
    return n


async def main():
    print(await asyncio.gather(*map(work, range(3))))
    try:
        await asyncio.wait_for(asyncio.sleep(5), 0.01)
    except asyncio.TimeoutError as error:
        print("timeout", repr(error))


asyncio.run(main())
