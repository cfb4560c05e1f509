import email

print(email.WHO)
