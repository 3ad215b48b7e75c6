"""placeholder"""


def example_figure(path, row):
    import matplotlib.figure

    return matplotlib.figure.Figure()
