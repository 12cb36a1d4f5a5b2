"""``python -m tarpit_builder``."""

from tarpit_builder.program import main

main()
