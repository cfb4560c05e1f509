import asyncio


async def main():
    asyncio.get_running_loop().create_task(asyncio.sleep(100))
    print("main")


asyncio.run(main())
