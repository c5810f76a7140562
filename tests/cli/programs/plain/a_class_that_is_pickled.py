import pickle


class Point:
    x = 1


print(pickle.loads(pickle.dumps(Point())).x, Point.__module__)
