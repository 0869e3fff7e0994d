import autograd.numpy as np
from autograd import grad
from autograd.extend import defvjp, primitive


@primitive
def logsumexp(x):
    """Compute log(sum(exp(x))) without overflow."""
    largest = np.max(x)
    return largest + np.log(np.sum(np.exp(x - largest)))


defvjp(logsumexp, lambda out, x: lambda g: g * np.exp(x - out))
result = np.sum(grad(lambda x: logsumexp(x**2))(np.array([1.0, 1.5, 2.0])) ** 2)
