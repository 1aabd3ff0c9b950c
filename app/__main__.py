"""`python -m app`, and the `aslgate` command."""

from app.cli import main

if __name__ == "__main__":
    main()
