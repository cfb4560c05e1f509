import logging
import sys

handler = logging.StreamHandler(sys.stdout)
logging.getLogger().addHandler(handler)
logging.warning("%d", "not a number")
