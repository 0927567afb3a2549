#!/usr/bin/env python
"""Django's command line for the test project."""

import os
import sys
from pathlib import Path


def main() -> None:
    # Python puts this file's directory on the path; the package is imported from its parent.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
