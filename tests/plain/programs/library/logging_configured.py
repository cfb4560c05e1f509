import logging
import sys

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s %(module)s %(funcName)s %(lineno)d %(message)s", stream=sys.stdout)


def f():
    logging.getLogger("app.db").debug("in f")


f()
logging.getLogger("app").exception("no exception")
