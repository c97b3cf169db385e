"""`python -m jaxprop` is the command `jaxprop`."""

from jaxprop.cli import main

if __name__ == "__main__":
    main()
