x = 1
if x:
    print('crlf')
1 / 0
