import concurrent.futures

pool = concurrent.futures.ThreadPoolExecutor(2)
print(pool.submit(lambda: "worker").result())
