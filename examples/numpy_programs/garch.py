"""Negative log-likelihood of returns under a GARCH(1, 1) model."""

import numpy as np


def variances(omega, alpha, beta, returns):
    sigma2 = np.empty_like(returns)
    sigma2[0] = np.var(returns)
    for t in range(1, returns.shape[0]):
        sigma2[t] = omega + alpha * returns[t - 1] ** 2 + beta * sigma2[t - 1]
    return sigma2


def loss(params, returns):
    omega = np.exp(params[0])
    alpha, beta, _ = np.exp(params[1:]) / np.exp(params[1:]).sum()
    sigma2 = variances(omega, alpha, beta, returns)
    loglik = -0.5 * (np.log(2 * np.pi) + np.log(sigma2) + returns**2 / sigma2)
    return -loglik.sum()


params = np.array([-2.0, -1.0, 1.0, -1.5])
examples = 0.8 * np.random.default_rng(6).standard_t(5, size=(4, 12))
