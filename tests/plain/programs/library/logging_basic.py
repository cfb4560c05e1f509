import logging

logging.warning("unconfigured %s", "warning")
logging.info("not shown")
logging.error("error")
