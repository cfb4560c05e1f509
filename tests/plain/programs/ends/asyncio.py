import asyncio
async def f(): await asyncio.sleep(0.01); return 'async'
print(asyncio.run(f()))
