import logging
import multiprocessing

multiprocessing.log_to_stderr(logging.ERROR)
logger = multiprocessing.get_logger()
logger.error("said")
