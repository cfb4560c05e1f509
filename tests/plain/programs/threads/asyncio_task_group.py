# /// plain
# python = ">=3.11"
# ///
import asyncio


async def fail():
    raise ValueError("in a task")


async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())


asyncio.run(main())
