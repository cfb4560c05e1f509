import logging

logging.basicConfig(format="%(filename)s %(pathname)s %(funcName)s:%(lineno)d %(message)s")
logging.warning("one")
logging.warning("two", stacklevel=2)
logging.warning("three", stacklevel=5)
