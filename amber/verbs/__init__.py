"""The verbs of the command line, by what they are about; `amber/cli.py` puts them together."""
