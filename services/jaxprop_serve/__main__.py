"""`python -m jaxprop_serve PATH...` is `jaxprop serve PATH...`."""

import sys

from jaxprop.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    main()
