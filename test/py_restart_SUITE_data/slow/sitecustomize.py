"""Never gets to the program's first line."""

import time

time.sleep(3600)
