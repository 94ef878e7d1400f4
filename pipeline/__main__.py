"""`python -m pipeline`, and the command `keras-tensorrt-pipeline`."""

from pipeline import interruption


def main() -> None:
    """Run the command line."""
    interruption.starting()  # before all that takes time to import
    from pipeline import cli

    cli.main()


if __name__ == "__main__":
    main()
