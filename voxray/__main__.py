"""`python -m voxray`: the command line, for where the console script is not on the path."""

from voxray.cli.main import main

main()
