raise ValueError("größe ✗ 🎈 \udc80")
