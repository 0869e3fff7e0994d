import autograd.numpy as np
from autograd import elementwise_grad, grad, hessian_vector_product, jacobian


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


x, v = np.linspace(-1, 1, 6), np.ones(6)
product = hessian_vector_product(rosenbrock)(x, v)
matrix = jacobian(grad(rosenbrock))(x)
slopes = elementwise_grad(elementwise_grad(np.tanh))(x)
result = np.sum(product**2) + np.trace(matrix) + np.sum(slopes * x)
