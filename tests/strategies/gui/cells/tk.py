def open_window():
    global root
    root = tkinter.Tk()
    root.bind("<Expose>", draw)
    root.geometry("100x100")

    def go():
        root.after(10, go)
        tick()

    go()


def close_window():
    root.destroy()


def replace_window():
    tkinter.Toplevel(root).destroy()


def redraw():
    root.geometry(f"{root.winfo_width() + 5}x100")


def later(function):
    root.after(20, function)


open_window()
