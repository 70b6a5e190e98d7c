"""`python -m l3net`; see `l3net.cli`."""

from l3net.cli import main

main()
