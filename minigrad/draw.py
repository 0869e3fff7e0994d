"""placeholder"""
def graph_svg(graph): raise NotImplementedError
def graph_html(graph): raise NotImplementedError
def show(graph, path): raise NotImplementedError
