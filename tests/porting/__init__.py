"""``invoke port``."""
