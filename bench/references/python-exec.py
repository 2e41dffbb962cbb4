"""Runs `true` in a box many times through the Python SDK. Prints the milliseconds of each run as JSON.

Arguments: the id of the box, and the number of runs.
"""

import asyncio
import json
import sys
import time

from boxrun_sdk import BoxHandle, BoxRunClient


async def main(box_id, count):
    client = BoxRunClient()
    box = BoxHandle(client, await client.get_box(box_id))
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await box.exec(["true"])
        times.append((time.perf_counter() - started) * 1000)
    await client.close()
    json.dump(times, sys.stdout)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
