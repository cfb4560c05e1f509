# -*- coding: latin-1 -*-
print("plain text")
