"""Tests every error code that a method of the Python SDK can raise, against a real server."""

from httpx_sse import SSEError

from support import WithBox, WithClient

NOBODY = "box_AAAAAAAAAAAA"


class NotFound(WithBox):
    async def test_every_method_answers_BOX_NOT_FOUND_for_a_missing_box(self):
        client = self.client
        (self.directory / "file").write_bytes(b"x")
        local = str(self.directory / "file")
        for box in (NOBODY, "no-such-name"):
            await self.assert_code("BOX_NOT_FOUND", client.get_box(box))
            await self.assert_code("BOX_NOT_FOUND", client.start_box(box))
            await self.assert_code("BOX_NOT_FOUND", client.stop_box(box))
            await self.assert_code("BOX_NOT_FOUND", client.remove_box(box))
            await self.assert_code("BOX_NOT_FOUND", client.remove_box(box, force=True))
            await self.assert_code("BOX_NOT_FOUND", client.start_exec(box, ["true"]))
            await self.assert_code("BOX_NOT_FOUND", client.get_exec(box, "exec_AAAAAAAAAAAA"))

    async def test_files_of_a_missing_box_give_BOX_NOT_FOUND(self):
        (self.directory / "file").write_bytes(b"x")
        local = str(self.directory / "file")
        await self.assert_code("BOX_NOT_FOUND", self.client.upload_file(NOBODY, local, "/root/file"))
        await self.assert_code("BOX_NOT_FOUND", self.client.download_file(NOBODY, "/root/file", local))

    async def test_a_missing_command_gives_EXEC_NOT_FOUND(self):
        other = await self.create()
        info = await other.exec(["true"])
        await self.assert_code("EXEC_NOT_FOUND", self.client.get_exec(self.box.id, "exec_AAAAAAAAAAAA"))
        await self.assert_code("EXEC_NOT_FOUND", self.client.get_exec(self.box.id, info.id))

    async def test_the_stream_of_a_missing_command_is_refused_and_does_not_hang(self):
        with self.assertRaises(SSEError):  # The SDK looks at the content type only.
            async for _ in self.client.exec_stream(self.box.id, "exec_AAAAAAAAAAAA"):
                self.fail("an event of nothing")

    async def test_a_missing_path_gives_NOT_FOUND(self):
        await self.assert_code("NOT_FOUND", self.client.get_box("a/b/c/d"))


class Conflicts(WithClient):
    async def test_a_used_name_gives_NAME_ALREADY_EXISTS(self):
        await self.create(name="taken")
        error = await self.assert_code("NAME_ALREADY_EXISTS", self.client.create("base", name="taken"))
        self.assertIn("taken", error.message)
        self.assertEqual(str(error), f"[NAME_ALREADY_EXISTS] {error.message}")

    async def test_more_cpus_or_memory_than_the_limit_give_RESOURCE_EXCEEDED(self):
        error = await self.assert_code("RESOURCE_EXCEEDED", self.client.create("base", cpu=200))
        self.assertIn("BOXRUN_MAX_CPU", error.message)
        await self.assert_code("RESOURCE_EXCEEDED", self.client.create("base", memory_mb=10_000_000))
        self.assertEqual(await self.client.list_boxes(), [])

    async def test_a_start_or_removal_of_a_running_box_gives_BOX_ALREADY_RUNNING(self):
        box = await self.create()
        await self.assert_code("BOX_ALREADY_RUNNING", box.start())
        await self.assert_code("BOX_ALREADY_RUNNING", box.remove())

    async def test_a_stop_or_command_of_a_stopped_box_gives_BOX_NOT_RUNNING(self):
        box = await self.create()
        await box.stop()
        await self.assert_code("BOX_NOT_RUNNING", box.stop())
        await self.assert_code("BOX_NOT_RUNNING", box.exec(["true"]))

    async def test_files_of_a_stopped_box_give_BOX_NOT_RUNNING(self):
        box = await self.create()
        await box.stop()
        (self.directory / "file").write_bytes(b"x")
        await self.assert_code("BOX_NOT_RUNNING", box.upload(str(self.directory / "file"), "/root/file"))
        await self.assert_code("BOX_NOT_RUNNING", box.download("/root/file", str(self.directory / "other")))


class Refused(WithBox):
    async def test_an_invalid_value_gives_VALIDATION_ERROR(self):
        client = self.client
        await self.assert_code("VALIDATION_ERROR", client.create("base", name="no good"))
        await self.assert_code("VALIDATION_ERROR", client.create("base", name=NOBODY))
        await self.assert_code("VALIDATION_ERROR", client.create("base", cpu=0))
        await self.assert_code("VALIDATION_ERROR", client.create("base", cpu=1.5))
        await self.assert_code("VALIDATION_ERROR", client.create("base", memory_mb=-1))
        await self.assert_code("VALIDATION_ERROR", client.create("base", workdir="relative"))
        await self.assert_code("VALIDATION_ERROR", client.create(""))
        await self.assert_code("VALIDATION_ERROR", client.create("base", env={"A=B": "c"}))
        await self.assert_code("VALIDATION_ERROR", client.list_boxes(status="odd"))
        await self.assert_code("VALIDATION_ERROR", client.gc(older_than=-1))
        await self.assert_code("VALIDATION_ERROR", client.run("base", []))
        await self.assert_code("VALIDATION_ERROR", self.box.exec([]))
        await self.assert_code("VALIDATION_ERROR", self.box.exec(["a\0b"]))
        await self.assert_code("VALIDATION_ERROR", client.start_exec(self.box.id, ["true"], workdir="relative"))
        await self.assert_code("VALIDATION_ERROR", client.start_exec(self.box.id, ["true"], timeout_ms=0))

    async def test_an_image_that_cannot_be_pulled_gives_IMAGE_PULL_FAILED(self):
        image = "127.0.0.1:1/nothing:1"
        error = await self.assert_code("IMAGE_PULL_FAILED", self.client.create(image))
        self.assertIn(image, error.message)
        await self.assert_code("IMAGE_PULL_FAILED", self.client.run(image, ["true"]))
        self.assertEqual([info.id for info in await self.client.list_boxes()], [self.box.id])

    async def test_a_missing_host_path_of_a_volume_gives_RUNTIME_ERROR_with_the_path(self):
        volume = {"host_path": "/no/such/directory", "guest_path": "/data"}
        error = await self.assert_code("RUNTIME_ERROR", self.client.create("base", volumes=[volume]))
        self.assertIn("/no/such/directory", error.message)
