print(2**2000 % 1000007, 3**200)
try:
    print(len(str(10**5000)))
except ValueError as error:
    print(error)
