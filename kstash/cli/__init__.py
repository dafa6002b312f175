"""The command line `kstash`."""
