"""Plans: what will be drawn, with which weights and in which order, and who pays for it.

May import `samplers.pack` and the rooms below it.
"""
