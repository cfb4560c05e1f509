import asyncio
import contextvars

var = contextvars.ContextVar("var", default="unset")


async def child():
    var.set("child")
    return var.get()


async def main():
    print(await asyncio.create_task(child()), var.get(), list(contextvars.copy_context()))


asyncio.run(main())
