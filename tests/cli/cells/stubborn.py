import asyncio


async def stubborn():
    print("rea" + "dy")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("refu" + "sed")
