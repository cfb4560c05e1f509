import platform
import socket

print(socket.gethostname(), platform.node(), socket.gethostbyname("localhost"))
