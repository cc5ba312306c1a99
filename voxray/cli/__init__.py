"""The `voxray` command, a module for each group of subcommands."""
