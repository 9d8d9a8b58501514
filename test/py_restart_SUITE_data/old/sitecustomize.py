"""Makes any Python look like an old one."""

import sys

sys.version_info = (3, 9, 18, "final", 0)
