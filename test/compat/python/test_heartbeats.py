"""Tests streams that are silent over several heartbeats. The server of these tests sends a comment every 25 ms."""

import json

from httpx_sse import aconnect_sse

from support import SMALL, WithBox


class Heartbeats(WithBox):
    def connect(self, method, path, **options):
        """Opens a stream for which the SDK has no method, and reads it as the SDK reads its own."""
        return aconnect_sse(self.client._http, method, path, timeout=None, **options)

    async def start_silent(self, name):
        script = f"echo first; while [ ! -e /root/{name} ]; do sleep 0.05; done; echo second"
        info = await self.client.start_exec(self.box.id, ["sh", "-c", script])
        return info, f"/v1/boxes/{self.box.id}/exec/{info.id}/events"

    async def test_a_long_silent_command_is_followed_to_its_end(self):
        info, path = await self.start_silent("spoken")
        seen = []
        async for event in self.client.exec_stream(self.box.id, info.id):
            seen.append((event.type, event.data))
            if len(seen) == 1:
                await self.silence(path)
                await self.box.exec(["touch", "/root/spoken"])
        self.assertEqual(seen, [("log", "first\n"), ("log", "second\n"), ("exit", '{"exit_code":0}')])

    async def test_a_resumed_stream_can_be_silent_before_its_first_event(self):
        info, path = await self.start_silent("resumed")
        await self.silence(path)  # So the first event is there.
        seen = []
        async with self.connect("GET", path, headers={"Last-Event-ID": "0"}) as source:
            await self.silence(path)
            await self.box.exec(["touch", "/root/resumed"])
            async for event in source.aiter_sse():
                seen.append((event.id, event.event, json.loads(event.data)["data"]))
        self.assertEqual(seen, [("1", "log", "second\n"), ("2", "exit", '{"exit_code":0}')])

    async def test_the_stream_of_state_events_can_be_silent_between_its_events(self):
        seen = []
        async with self.connect("GET", "/v1/events") as source:
            async for event in source.aiter_sse():
                json.loads(event.data)
                seen.append(event.event)
                if event.event == "ready":
                    await self.silence("/v1/events")
                    await self.box.exec(["sleep", "0.2"])
                if event.event == "exec.finished":
                    break
        self.assertEqual(seen, ["ready", "exec.started", "exec.finished"])

    async def test_the_stream_of_a_run_can_be_silent(self):
        body = {"image": "base", "cmd": ["sh", "-c", "echo told; sleep 0.5"], **SMALL}
        seen = []
        async with self.connect("POST", "/v1/run", json=body) as source:
            async for event in source.aiter_sse():
                seen.append((event.id, event.event, json.loads(event.data)))
        logs = [(id, event, value["data"]) for id, event, value in seen if event != "progress"]
        self.assertEqual(logs, [("0", "log", "told\n"), ("1", "exit", '{"exit_code":0}')])
