"""`python -m jaxprop` is the command `jaxprop`."""

from typing import NoReturn

from jaxprop.huge_pages import start_with_huge_pages


def main() -> NoReturn:
    """Start with huge pages where they help, then run the command line, which takes longer to import."""
    start_with_huge_pages()
    from jaxprop.cli import main

    main()


if __name__ == "__main__":
    main()
