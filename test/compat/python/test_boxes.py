"""Tests every method of the Python SDK for boxes, of the client and of the handle, against a real server."""

import tempfile
from datetime import datetime, timezone

from boxrun_sdk import BoxHandle, BoxInfo, BoxRunClient

from support import SMALL, WithClient


def when(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Boxes(WithClient):
    async def test_create_returns_a_handle_of_a_running_box_with_every_field(self):
        before = datetime.now(timezone.utc)
        box = await self.client.create("base")
        self.addAsyncCleanup(box.remove, force=True)
        self.assertIsInstance(box, BoxHandle)
        info = box.info
        self.assertIsInstance(info, BoxInfo)
        self.assertRegex(info.id, r"^box_[A-Za-z0-9_-]{12}$")
        self.assertEqual(
            (info.name, info.status, info.image, info.cpu, info.memory_mb, info.disk_size_gb, info.network, info.workdir),
            (None, "running", "base", 2, 1024, 8, False, "/root"),
        )
        self.assertEqual((info.env, info.volumes, info.error_code, info.error_message, info.stopped_at), (None,) * 5)
        self.assertLess(abs((when(info.created_at) - before).total_seconds()), 60)
        self.assertGreaterEqual(when(info.started_at), when(info.created_at))

    async def test_create_takes_every_option(self):
        with tempfile.TemporaryDirectory() as shared:
            with open(f"{shared}/note", "w") as file:
                file.write("from the host")
            volume = {"host_path": shared, "guest_path": "/shared", "readonly": True}
            box = await self.create(
                name="full", network=True, workdir="/tmp", env={"COLOUR": "blue"}, volumes=[volume]
            )
            self.assertEqual((box.name, box.info.network, box.info.workdir), ("full", True, "/tmp"))
            self.assertEqual((box.info.env, box.info.volumes), ({"COLOUR": "blue"}, [volume]))
            events = [event async for event in box.exec_stream(["sh", "-c", "pwd; echo $COLOUR; cat /shared/note"])]
            self.assertEqual("".join(event.data for event in events if event.type == "log"), "/tmp\nblue\nfrom the host")
            self.assertEqual((await box.exec(["touch", "/shared/no"])).exit_code, 1)

    async def test_get_box_finds_by_id_and_by_name(self):
        box = await self.create(name="known")
        self.assertEqual(await self.client.get_box(box.id), box.info)
        self.assertEqual(await self.client.get_box("known"), box.info)
        self.assertEqual(await box.refresh(), box.info)

    async def test_list_boxes_returns_all_boxes_or_those_with_a_status_newest_first(self):
        first = await self.create()
        second = await self.create()
        await first.stop()
        self.assertEqual([info.id for info in await self.client.list_boxes()], [second.id, first.id])
        self.assertEqual([info.id for info in await self.client.list_boxes(status="all")], [second.id, first.id])
        self.assertEqual([info.id for info in await self.client.list_boxes(status="running")], [second.id])
        self.assertEqual([info.id for info in await self.client.list_boxes(status="stopped")], [first.id])
        self.assertEqual(await self.client.list_boxes(status="creating"), [])
        self.assertEqual(await self.client.list_boxes(status="error"), [])

    async def test_stop_and_start_keep_the_disk(self):
        box = await self.create()
        await box.exec(["sh", "-c", "echo kept > /root/file"])
        stopped = await box.stop()
        self.assertEqual((stopped.status, box.info.status), ("stopped", "stopped"))
        self.assertIsNotNone(stopped.stopped_at)
        started = await box.start()
        self.assertEqual(started.status, "running")
        events = [event async for event in box.exec_stream(["cat", "/root/file"])]
        self.assertEqual(events[0].data, "kept\n")

    async def test_the_client_stops_starts_and_removes_by_id_or_name(self):
        box = await self.create(name="handy")
        self.assertEqual((await self.client.stop_box("handy")).status, "stopped")
        self.assertEqual((await self.client.start_box(box.id)).status, "running")
        await self.client.stop_box(box.id)
        self.assertIsNone(await self.client.remove_box("handy"))
        self.assertEqual(await self.client.list_boxes(), [])

    async def test_remove_with_force_removes_a_running_box(self):
        box = await self.create(name="again")
        await box.remove(force=True)
        other = await self.create(name="again")
        await other.stop()
        await other.remove()
        self.assertEqual(await self.client.list_boxes(), [])

    async def test_gc_removes_boxes_that_have_been_stopped_long_enough(self):
        box = await self.create()
        running = await self.create()
        await box.stop()
        self.assertEqual(await self.client.gc(), 0)
        self.assertEqual(await self.client.gc(older_than=0), 1)
        self.assertEqual([info.id for info in await self.client.list_boxes()], [running.id])

    async def test_the_client_is_a_context_manager(self):
        async with BoxRunClient() as client:
            self.assertEqual(await client.list_boxes(), [])


class Run(WithClient):
    async def test_run_returns_the_exit_code_and_the_output(self):
        result = await self.client.run("base", ["sh", "-c", "echo $WORD; echo oops >&2; exit 5"], env={"WORD": "hi"}, disk_size_gb=1)
        self.assertEqual((result.exit_code, result.stdout, result.stderr, result.error_message), (5, "hi\n", "oops\n", None))
        self.assertEqual(await self.client.list_boxes(), [])

    async def test_run_ends_at_its_timeout_with_a_message(self):
        result = await self.client.run("base", ["sleep", "1000"], timeout_ms=300)
        self.assertIn("timed out", result.error_message)
        self.assertEqual(await self.client.list_boxes(), [])

    async def test_run_mounts_volumes(self):
        volume = {"host_path": str(self.directory), "guest_path": "/out", "readonly": False}
        result = await self.client.run("base", ["sh", "-c", "echo made > /out/file"], volumes=[volume])
        self.assertEqual(result.exit_code, 0)
        self.assertEqual((self.directory / "file").read_text(), "made\n")
