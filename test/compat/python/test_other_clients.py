"""Tests output streams with sseclient-py, a client that the SDK does not use, against a real server."""

import asyncio
import json

from sseclient import SSEClient

from support import WithBox


class SseclientPy(WithBox):
    async def read(self, path, **headers):
        """Returns every event of a stream that ends."""
        async with self.client._http.stream("GET", path, headers=headers, timeout=None) as response:
            pieces = [piece async for piece in response.aiter_bytes()]
        return [(event.id, event.event, json.loads(event.data)["data"]) for event in SSEClient(pieces).events()]

    async def test_a_silent_command_is_followed_and_resumed(self):
        text = "a\u2028b\u0085c\r\nd\n\ndata: e\n"
        octal = "".join(f"\\{byte:03o}" for byte in text.encode())
        script = f"printf '{octal}'; while [ ! -e /root/go ]; do sleep 0.05; done; echo end"
        info = await self.client.start_exec(self.box.id, ["sh", "-c", script])
        path = f"/v1/boxes/{self.box.id}/exec/{info.id}/events"
        reads = [asyncio.create_task(self.read(path)), asyncio.create_task(self.read(path, **{"Last-Event-ID": "0"}))]
        await self.silence(path)
        await self.box.exec(["touch", "/root/go"])
        events, resumed = await asyncio.gather(*reads)
        self.assertEqual(events, [("0", "log", text), ("1", "log", "end\n"), ("2", "exit", '{"exit_code":0}')])
        self.assertEqual(resumed, events[1:])

    async def test_large_output_is_complete(self):
        info = await self.box.exec(["sh", "-c", "yes 'a \"line\"' | head -n 30000"])
        events = await self.read(f"/v1/boxes/{self.box.id}/exec/{info.id}/events")
        self.assertEqual([id for id, _, _ in events], [str(seq) for seq in range(len(events))])
        self.assertEqual("".join(data for _, event, data in events if event == "log"), 'a "line"\n' * 30000)
