"""Tests commands through the Python SDK against a real server: run, start, look up and follow."""

import asyncio
import statistics
import time

from boxrun_sdk import BoxHandle, BoxRunClient, ExecEvent, ExecInfo

from support import WithBox, figure


class Execs(WithBox):
    async def test_exec_waits_for_the_end_and_returns_every_field(self):
        info = await self.box.exec(["sh", "-c", "exit $CODE"], env={"CODE": "4"})
        self.assertIsInstance(info, ExecInfo)
        self.assertRegex(info.id, r"^exec_[A-Za-z0-9_-]{12}$")
        self.assertEqual((info.box_id, info.status, info.exit_code), (self.box.id, "failed", 4))
        self.assertEqual((info.cmd, info.env), (["sh", "-c", "exit $CODE"], {"CODE": "4"}))
        self.assertEqual((info.workdir, info.timeout_ms, info.error_message), (None, None, None))
        self.assertGreaterEqual(info.finished_at, info.created_at)

    async def test_exec_asks_again_until_a_longer_command_has_ended(self):
        info = await self.box.exec(["sleep", "0.7"])
        self.assertEqual((info.status, info.exit_code), ("succeeded", 0))

    async def test_exec_kills_the_command_at_its_timeout_with_a_message(self):
        info = await self.box.exec(["sleep", "1000"], timeout_ms=300)
        self.assertEqual((info.status, info.timeout_ms), ("failed", 300))
        self.assertIn("timed out", info.error_message)

    async def test_exec_of_a_missing_program_ends_with_127(self):
        info = await self.box.exec(["no-such-command"])
        self.assertEqual((info.status, info.exit_code), ("failed", 127))

    async def test_start_exec_returns_at_once_and_get_exec_shows_the_end(self):
        started = time.monotonic()
        info = await self.client.start_exec(
            self.box.id, ["sh", "-c", "pwd; sleep 0.5"], env={"A": "b"}, workdir="/tmp", timeout_ms=60_000
        )
        self.assertLess(time.monotonic() - started, 0.45)
        self.assertEqual((info.status, info.workdir, info.timeout_ms, info.env), ("running", "/tmp", 60_000, {"A": "b"}))
        events = [event async for event in self.client.exec_stream(self.box.id, info.id)]
        self.assertEqual(events[0].data, "/tmp\n")
        self.assertEqual((await self.client.get_exec(self.box.id, info.id)).status, "succeeded")

    async def test_exec_true_is_finished_when_it_returns_and_its_median_is_printed(self):
        async def measure():
            times = []
            for _ in range(50):
                started = time.perf_counter()
                info = await self.box.exec(["true"])
                times.append((time.perf_counter() - started) * 1000)
                self.assertEqual(info.status, "succeeded")
            return statistics.median(times)

        # A busy host gets up to three more rounds.
        medians = [await measure()]
        while medians[-1] >= 50 and len(medians) < 4:
            medians.append(await measure())
        figure(f"exec(['true']): median {min(medians):.1f} ms of 50" + (f" (rounds: {[round(each, 1) for each in medians]})" if len(medians) > 1 else ""))
        # If the answer did not already show the end, the SDK would poll, and would need more than 500 ms.
        self.assertLess(min(medians), 400)


class Streams(WithBox):
    async def test_exec_stream_returns_log_events_and_then_the_exit(self):
        events = [event async for event in self.box.exec_stream(["sh", "-c", "echo $A; echo b >&2; exit 3"], env={"A": "a"})]
        self.assertEqual(events[-1], ExecEvent(type="exit", data='{"exit_code":3}', stream=None, seq=len(events) - 1))
        logs = sorted((event.stream, event.data) for event in events[:-1])
        self.assertEqual(logs, [("stderr", "b\n"), ("stdout", "a\n")])
        self.assertEqual([event.seq for event in events], list(range(len(events))))
        self.assertTrue(all(event.type == "log" for event in events[:-1]))

    async def test_events_arrive_while_the_command_runs(self):
        script = "echo first; while [ ! -e /root/go ]; do sleep 0.05; done; echo second"
        info = await self.client.start_exec(self.box.id, ["sh", "-c", script])
        seen = []
        async for event in self.client.exec_stream(self.box.id, info.id):
            seen.append(event.data)
            if seen == ["first\n"]:
                # The command waits for this file, so it still runs when the first event arrives.
                self.assertEqual((await self.client.get_exec(self.box.id, info.id)).status, "running")
                await self.box.exec(["touch", "/root/go"])
        self.assertEqual("".join(seen[:-1]), "first\nsecond\n")

    async def test_the_exit_event_of_a_stream_reports_the_timeout(self):
        events = [event async for event in self.box.exec_stream(["sleep", "1000"], timeout_ms=300)]
        self.assertEqual(events[-1].type, "exit")
        self.assertIn("timed out", events[-1].data)

    async def test_the_stream_of_a_finished_command_begins_with_its_first_output(self):
        info = await self.box.exec(["echo", "hello"])
        for _ in range(2):
            events = [event async for event in self.client.exec_stream(self.box.id, info.id)]
            self.assertEqual([event.data for event in events], ["hello\n", '{"exit_code":0}'])

    async def test_text_with_unusual_line_separators_is_complete(self):
        text = "ä😀 line\u2028separator\u2029paragraph\u0085next\r\ttab\x00nul\n"
        (self.directory / "text").write_bytes(text.encode())
        octal = "".join(f"\\{byte:03o}" for byte in text.encode())
        self.assertEqual(await self.output(f"printf '{octal}'"), text)
        self.assertEqual(await self.output("printf 'a\\377b'"), "a\ufffdb")

    async def test_20_mb_of_output_are_complete_and_in_order(self):
        size = 20 * 1024 * 1024
        started = time.perf_counter()
        length = 0
        script = f"i=0; while [ $i -lt 20 ]; do head -c {size // 20} /dev/zero | tr '\\0' \"$(printf \"\\\\$(printf %03o $((97 + i)))\")\"; i=$((i + 1)); done"
        letters = []
        next_seq = 0
        async for event in self.box.exec_stream(["sh", "-c", script]):
            self.assertEqual(event.seq, next_seq)
            next_seq += 1
            if event.type != "log":
                continue
            length += len(event.data)
            for letter in (event.data[0], event.data[-1]):
                if letters[-1:] != [letter]:
                    letters.append(letter)
        seconds = time.perf_counter() - started
        self.assertEqual((length, "".join(letters)), (size, "abcdefghijklmnopqrst"))
        figure(f"20 MB of output: {seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s, {next_seq} events")


class ManyAtOnce(WithBox):
    async def test_many_clients_each_get_their_own_output(self):
        async def one(number):
            async with BoxRunClient() as client:
                box = BoxHandle(client, self.info)
                script = f"for i in 1 2 3; do echo {number}-$i; sleep 0.05; done"
                events = [event async for event in box.exec_stream(["sh", "-c", script])]
                return "".join(event.data for event in events if event.type == "log"), events[-1].data

        started = time.perf_counter()
        results = await asyncio.gather(*(one(number) for number in range(30)))
        figure(f"30 clients at once, a stream each: {time.perf_counter() - started:.2f} s")
        for number, (text, end) in enumerate(results):
            self.assertEqual((text, end), (f"{number}-1\n{number}-2\n{number}-3\n", '{"exit_code":0}'))

    async def test_one_client_runs_many_commands_at_once(self):
        results = await asyncio.gather(*(self.box.exec(["sh", "-c", f"exit {number}"]) for number in range(40)))
        self.assertEqual([info.exit_code for info in results], list(range(40)))

    async def test_many_boxes_are_made_and_used_at_once(self):
        async def one(number):
            box = await self.create(memory_mb=64)
            info = await box.exec(["sh", "-c", f"echo {number} > /root/number"])
            text = [event.data async for event in box.exec_stream(["cat", "/root/number"])][0]
            await box.remove(force=True)
            return info.exit_code, text

        results = await asyncio.gather(*(one(number) for number in range(6)))
        self.assertEqual(results, [(0, f"{number}\n") for number in range(6)])
