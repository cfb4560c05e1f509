import xml

print(hasattr(xml, "etree"))
import concurrent

print(hasattr(concurrent, "futures"))
import email

print(hasattr(email, "mime"))
import urllib

print(hasattr(urllib, "request"), hasattr(urllib, "parse"))
import os.path, logging

print(hasattr(logging, "handlers"), hasattr(logging, "config"))
