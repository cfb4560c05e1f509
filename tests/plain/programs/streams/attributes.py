import sys

for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.name, stream.mode, stream.encoding, stream.errors, stream.newlines, stream.closed, stream.isatty())
    print(stream.readable(), stream.writable(), stream.seekable(), stream.fileno(), stream.line_buffering)
