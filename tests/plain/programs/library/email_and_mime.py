from email.message import EmailMessage

message = EmailMessage()
message["Subject"] = "Grüße"
message["To"] = "ada@example.org"
message.set_content("Hallo")
print(message)
