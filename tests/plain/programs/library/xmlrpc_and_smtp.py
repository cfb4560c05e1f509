import smtplib
import xml.etree.ElementTree as ET

root = ET.fromstring("<a><b x='1'>t</b></a>")
print(root.find("b").attrib, ET.tostring(root))
try:
    smtplib.SMTP("127.0.0.1", 9)
except OSError as error:
    print(type(error).__name__, error.errno)
ET.fromstring("<a>")
