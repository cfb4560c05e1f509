import urllib.request

try:
    urllib.request.urlopen("http://no.such.host.invalid/", timeout=3)
except OSError as error:
    print(type(error).__name__)
