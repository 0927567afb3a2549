"""Runs Python as another user, or another Python: python -m tests.lifecycle.launch USER PATH …

USER may be empty. The other Python finds the packages of the one that it is started from; where
an extension module was made for that one only, it takes what the package has in Python instead.
"""

import os
import pwd
import sys
import sysconfig


def main(user: str, interpreter: str, *arguments: str) -> None:
    # Before the user changes: he may not be allowed to read what tells it.
    paths = [os.environ["PYTHONPATH"], sysconfig.get_path("purelib")]
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if "PYTHONPYCACHEPREFIX" in os.environ:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.execv(interpreter, [interpreter, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
