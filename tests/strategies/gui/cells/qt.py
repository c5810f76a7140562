app = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])


class Window(QtWidgets.QLabel):
    def paintEvent(self, event):
        draw()


def open_window():
    global window
    window = Window("window")
    window.show()


def close_window():
    window.close()


def replace_window():
    old = window
    open_window()
    old.close()


def redraw():
    window.update()


def later(function):
    QtCore.QTimer.singleShot(20, lambda: function() and None)


open_window()
timer = QtCore.QTimer()
timer.timeout.connect(tick)
timer.start(10)
