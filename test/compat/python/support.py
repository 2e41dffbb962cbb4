"""Base classes of the tests: a client of the server, and a box that all tests of one class share."""

import asyncio
import tempfile
import unittest
from pathlib import Path

from boxrun_sdk import BoxHandle, BoxRunClient, BoxRunError

SMALL = {"cpu": 1, "memory_mb": 128, "disk_size_gb": 1}


def on_figure(text):
    """Takes a figure that a test has measured."""


def figure(text):
    on_figure(text)


class WithClient(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        # Without an address, the SDK finds the server as it does for every user.
        self.client = BoxRunClient()
        self.addAsyncCleanup(self.client.close)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    async def create(self, **options):
        """Creates a box for one test."""
        box = await self.client.create("base", **{**SMALL, **options})

        async def remove():
            try:
                await box.remove(force=True)
            except BoxRunError as error:
                if error.code != "BOX_NOT_FOUND":
                    raise

        self.addAsyncCleanup(remove)
        return box

    async def assert_code(self, code, call):
        with self.assertRaises(BoxRunError) as caught:
            await call
        self.assertEqual(caught.exception.code, code, caught.exception.message)
        self.assertTrue(caught.exception.message)
        return caught.exception


class WithBox(WithClient):
    @classmethod
    def setUpClass(cls):
        async def create():
            async with BoxRunClient() as client:
                return (await client.create("base", **SMALL)).info

        cls.info = asyncio.run(create())

    @classmethod
    def tearDownClass(cls):
        async def remove():
            async with BoxRunClient() as client:
                await client.remove_box(cls.info.id, force=True)

        asyncio.run(remove())

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.box = BoxHandle(self.client, self.info)

    async def output(self, script, **options):
        """Returns what a shell script writes to stdout."""
        events = [event async for event in self.box.exec_stream(["sh", "-c", script], **options)]
        self.assertEqual(events[-1].type, "exit")
        return "".join(event.data for event in events if event.stream == "stdout")

    async def silence(self, path):
        """Reads the same stream, and returns after five comments."""
        comments = 0
        async with self.client._http.stream("GET", path, timeout=None) as response:
            async for line in response.aiter_lines():
                comments += line.startswith(":")
                if comments == 5:
                    return
        self.fail("the stream has ended")
