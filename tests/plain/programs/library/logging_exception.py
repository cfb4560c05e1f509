import logging

logging.basicConfig(format="%(levelname)s:%(message)s")
log = logging.getLogger(__name__)


def f():
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed")
        log.warning("with stack", stack_info=True)


f()
