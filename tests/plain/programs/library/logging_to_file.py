import logging

logging.basicConfig(filename="app.log", level="INFO", format="%(message)s")
logging.info("to the file")
print(open("app.log").read())
