import logging

log = logging.getLogger("own")
log.propagate = False
log.warning("last resort")
log.info("nothing")
print(logging.root.handlers, log.handlers, logging.root.level)
