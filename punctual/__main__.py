"""The command `punctual`, which needs more packages than the class `Scheduler`."""

import sys


def main() -> None:
    """Run the command, or say what to install."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as missing:
        if missing.name not in ("click", "rich"):
            raise
        sys.exit('punctual: the command needs more packages: pip install "punctual-scheduler[cli]"')
    run()


if __name__ == "__main__":
    main()
