"""Tests uploads and downloads through the Python SDK against a real server, byte for byte."""

import hashlib
import os
import time

from support import WithBox, figure


class Files(WithBox):
    async def there_and_back(self, content, path):
        """Uploads, compares the hash in the box, downloads, and compares again."""
        source = self.directory / "source"
        source.write_bytes(content)
        self.assertIsNone(await self.box.upload(str(source), path))
        quoted = "'" + path.replace("'", "'\\''") + "'"
        self.assertEqual((await self.output(f"sha256sum < {quoted}")).split()[0], hashlib.sha256(content).hexdigest())
        back = self.directory / "back"
        self.assertIsNone(await self.box.download(path, str(back)))
        self.assertEqual(back.read_bytes(), content)

    async def test_a_file_is_unchanged_after_upload_and_download(self):
        await self.there_and_back(b"hello\n", "/root/file")

    async def test_an_empty_file_is_still_empty_after_upload_and_download(self):
        await self.there_and_back(b"", "/root/empty")

    async def test_every_byte_value_is_unchanged_after_upload_and_download(self):
        await self.there_and_back(bytes(range(256)) * 1000 + b"\r\n--boundary--\r\n", "/root/bytes")

    async def test_64_mb_are_unchanged_after_upload_and_download(self):
        size = 64 * 1024 * 1024
        started = time.perf_counter()
        await self.there_and_back(os.urandom(size), "/root/large")
        figure(f"64 MB up, hashed, and down: {time.perf_counter() - started:.2f} s")

    async def test_names_with_spaces_quotes_and_other_alphabets_work(self):
        for name in ("with space", "with 'quote' and \"quotes\"", "ünïcode 文字 😀", "-dash", "percent%20", "semi;colon"):
            await self.there_and_back(name.encode(), f"/root/{name}")

    async def test_an_upload_makes_a_missing_directory(self):
        await self.there_and_back(b"deep", "/root/a/b/c/file")

    async def test_an_upload_replaces_an_existing_file(self):
        await self.there_and_back(b"a longer first version", "/root/twice")
        await self.there_and_back(b"second", "/root/twice")

    async def test_files_under_tmp_work(self):
        await self.there_and_back(b"temporary", "/tmp/file")

    async def test_the_client_uploads_and_downloads_by_id(self):
        source = self.directory / "source"
        source.write_bytes(b"by id")
        await self.client.upload_file(self.box.id, str(source), "/root/by-id")
        await self.client.download_file(self.box.id, "/root/by-id", str(self.directory / "back"))
        self.assertEqual((self.directory / "back").read_bytes(), b"by id")

    async def test_a_path_that_cannot_be_read_or_written_is_refused(self):
        source = self.directory / "source"
        source.write_bytes(b"x")
        back = str(self.directory / "back")
        await self.assert_code("RUNTIME_ERROR", self.box.download("/root/no-such-file", back))
        await self.assert_code("VALIDATION_ERROR", self.box.download("/root", back))
        await self.assert_code("VALIDATION_ERROR", self.box.upload(str(source), "/root"))
        await self.assert_code("VALIDATION_ERROR", self.box.upload(str(source), "/root/../etc/file"))
        await self.assert_code("VALIDATION_ERROR", self.box.download("/root/../etc/hostname", back))
        self.assertFalse(os.path.exists(back))
