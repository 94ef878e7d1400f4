"""No command opens a connection beyond the machine, by every system call of a whole run that could."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PYTHONPATH, QUICK

CALLS = "connect,sendto,sendmsg,sendmmsg"

FAMILY = "sa_family="

WITHIN = re.compile(
    r'AF_(UNIX|NETLINK|UNSPEC)\b|AF_INET,.*?inet_addr\("127\.|AF_INET6,.*?inet_pton\(AF_INET6, "(::1"|::ffff:127\.)'
)
"""Addresses of this machine, as strace writes them: a socket file, the kernel itself, none, or loopback."""


def beyond(trace: str) -> list[str]:
    """Return the calls in strace's output that name an address beyond this machine."""
    return [line for line in trace.splitlines() if not all(map(WITHIN.match, line.split(FAMILY)[1:]))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('1 connect(3, {sa_family=AF_UNIX, sun_path="/tmp/listener"}, 110) = 0', False),
        ('1 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0', False),
        ('1 sendto(3, "", 0, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20', False),
        ('1 sendto(3, "", 0, 0, NULL, 0) = 20', False),
        ('1 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = 0', True),
        ('1 sendmsg(3, {msg_name={sa_family=AF_INET, sin_addr=inet_addr("192.0.2.1")}, msg_iovlen=1}, 0) = 1', True),
        (
            "1 connect(3, {sa_family=AF_INET6, sin6_port=htons(80), "
            'inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = -1 ENETUNREACH',
            True,
        ),
    ],
)
def test_an_address_beyond_this_machine_is_told_from_others(line: str, expected: bool) -> None:
    assert bool(beyond(line)) == expected


@pytest.mark.long
def test_a_whole_run_opens_no_connection_beyond_this_machine(tmp_path: Path) -> None:
    """`all` with the digits, and `deploy`: every process of theirs, workers included."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    traced = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", "trace"]
    for command in ("all", "deploy"):
        run = subprocess.run(
            [*traced, sys.executable, "-m", "pipeline", command, *QUICK],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": PYTHONPATH},
            capture_output=True,
            text=True,
            timeout=600,
        )
        if "PTRACE" in run.stderr:
            pytest.skip(f"strace may trace nothing here: {run.stderr}")
        assert run.returncode == 0, run.stderr
        trace = (tmp_path / "trace").read_text(encoding="utf-8", errors="replace")
        assert beyond(trace) == []
        if command == "all":
            assert "AF_UNIX" in trace, "the workers' own connections are seen, so that others would be"
