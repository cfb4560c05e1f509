import bisect
import heapq

heap = [5, 3, 8]
heapq.heapify(heap)
heapq.heappush(heap, 1)
print([heapq.heappop(heap) for _ in range(4)], bisect.bisect([1, 3, 5], 3))
