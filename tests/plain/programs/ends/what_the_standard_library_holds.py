import math, json
class T:
    def __del__(self): print('gone')
json.z = T(); math.z = T()
