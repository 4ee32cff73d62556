"""What the scripted intrusion leaves in a guest, asked of the guest itself: so that two moments can be compared.

Refuses to judge: each question is a shell command that prints yes or no.
"""

from __future__ import annotations

from workbench.demo.intrusion import Commanded

__all__ = ["QUESTIONS", "examine"]

QUESTIONS: dict[str, str] = {
    "user sysupd in /etc/passwd": "grep -q ^sysupd: /etc/passwd",
    "hidden directory /tmp/.hidden": "test -d /tmp/.hidden",
    "program running from a deleted file": "ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q 'busybox-update (deleted)'",
    "shell listening on port 4444": "netstat -ltn | grep -q ':4444 '",
    "backdoor in root's crontab": "grep -q 4444 /var/spool/cron/crontabs/root",
    "log of the break-in wiped": "test ! -s /var/log/auth.log",
}


def examine(guest: Commanded) -> dict[str, bool]:
    """Ask a guest every question.

    Returns
    -------
    dict of str to bool
        Whether each trace is there.
    """
    return {question: guest.run(command).rc == 0 for question, command in QUESTIONS.items()}
