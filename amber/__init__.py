"""The front doors: command line, service, App plugin, the loop and the demo. May import every other package."""
