"""On files: reading what is the agent's, writing, and changing."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from pathlib import Path
from typing import Any

from tests.client.gateway.attacks.calls import Attacks, call

ATTACKS = Attacks()


@ATTACKS.add
def read_key(facts: Any) -> None:
    Path(facts["key"]).read_bytes()


@ATTACKS.add
def read_ledger(facts: Any) -> None:
    Path(facts["ledger"]).read_bytes()


@ATTACKS.add
def read_tile(facts: Any) -> None:
    Path(facts["tile"]).read_bytes()


@ATTACKS.add
def list_tiles(facts: Any) -> None:
    os.listdir(Path(facts["tile"]).parent)  # noqa: PTH208


@ATTACKS.add
def read_key_by_another_path(facts: Any) -> None:
    Path("/proc/self/root" + facts["key"]).read_bytes()


@ATTACKS.add
def read_key_through_a_path_only_file(facts: Any) -> None:
    folder = os.open(Path(facts["key"]).parent, os.O_PATH)
    os.close(os.open(Path(facts["key"]).name, os.O_RDONLY, dir_fd=folder))


@ATTACKS.add
def read_key_by_a_newer_call(facts: Any) -> None:
    how = (ctypes.c_uint64 * 3)(0, 0, 0)
    call("openat2", -100, facts["key"].encode(), ctypes.byref(how), 24)


@ATTACKS.add
def read_key_in_another_thread(facts: Any) -> None:
    seen: list[object] = []

    def read() -> None:
        try:
            seen.append(Path(facts["key"]).read_bytes())
        except OSError as error:
            seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    if isinstance(seen[0], OSError):
        raise seen[0]


@ATTACKS.add
def read_an_inherited_file(facts: Any) -> None:
    if not os.pread(facts["inherited"], 1, 0):
        raise OSError(errno.ENODATA, "empty")


@ATTACKS.add
def read_memory_of_another(facts: Any) -> None:
    with Path(f"/proc/{facts['victim']}/mem").open("rb"):
        pass


@ATTACKS.add
def read_environment_of_another(facts: Any) -> None:
    Path(f"/proc/{facts['victim']}/environ").read_bytes()


@ATTACKS.add
def read_command_line_of_another(facts: Any) -> None:
    Path(f"/proc/{facts['victim']}/cmdline").read_bytes()


@ATTACKS.add
def read_own_memory_map(facts: Any) -> None:
    Path("/proc/self/maps").read_bytes()


# Writing and changing.


@ATTACKS.add
def write_profile(facts: Any) -> None:
    with Path(facts["home"], ".bashrc").open("a") as file:
        file.write("evil\n")


@ATTACKS.add
def write_shared_memory(facts: Any) -> None:
    path = Path(f"/dev/shm/airlock-{os.getpid()}")
    path.write_text("x")
    path.unlink()


@ATTACKS.add
def write_own_key(facts: Any) -> None:
    with Path(facts["readable"]).open("ab") as file:
        file.write(b"")


@ATTACKS.add
def empty_own_key(facts: Any) -> None:
    os.close(os.open(facts["spare"], os.O_RDONLY | os.O_TRUNC))


@ATTACKS.add
def truncate_ledger(facts: Any) -> None:
    os.truncate(facts["ledger"], 0)


@ATTACKS.add
def open_key_to_others(facts: Any) -> None:
    Path(facts["key"]).chmod(0o666)


@ATTACKS.add
def open_key_by_a_newer_call(facts: Any) -> None:
    call("fchmodat2", -100, facts["key"].encode(), 0o666, 0)


@ATTACKS.add
def give_key_away(facts: Any) -> None:
    os.chown(facts["key"], -1, -1)


@ATTACKS.add
def set_attribute(facts: Any) -> None:
    os.setxattr(facts["key"], "user.evil", b"x")


@ATTACKS.add
def set_times(facts: Any) -> None:
    os.utime(facts["key"], (0, 0))


@ATTACKS.add
def rename_key(facts: Any) -> None:
    away = Path(facts["key"]).rename(facts["key"] + ".away")
    away.rename(facts["key"])


@ATTACKS.add
def link_key(facts: Any) -> None:
    os.link(facts["key"], facts["key"] + ".link")
    Path(facts["key"] + ".link").unlink()


@ATTACKS.add
def symlink(facts: Any) -> None:
    path = Path(facts["home"], "symlink")
    path.symlink_to("x")
    path.unlink()


@ATTACKS.add
def remove(facts: Any) -> None:
    Path(facts["spare"]).unlink()


@ATTACKS.add
def make_folder(facts: Any) -> None:
    path = Path(facts["home"], "folder")
    path.mkdir()
    path.rmdir()


@ATTACKS.add
def make_pipe(facts: Any) -> None:
    os.mkfifo(Path(facts["home"], "pipe"))
    Path(facts["home"], "pipe").unlink()


@ATTACKS.add
def change_folder(facts: Any) -> None:
    here = Path.cwd()
    os.chdir(facts["home"])
    os.chdir(here)


@ATTACKS.add
def empty_the_log(facts: Any) -> None:
    log = os.open(facts["home"] + "/log", os.O_CREAT | os.O_WRONLY)
    os.close(log)


@ATTACKS.add
def cut_output(facts: Any) -> None:
    os.ftruncate(2, 0)


@ATTACKS.add
def write_output_at_a_place(facts: Any) -> None:
    os.pwrite(1, b"", 0)


@ATTACKS.add
def write_an_inherited_file_anew(facts: Any) -> None:
    os.ftruncate(facts["inherited_to_write"], 0)
