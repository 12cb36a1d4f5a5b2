"""A booted Debian with systemd, in which packages live as on a user's host."""
