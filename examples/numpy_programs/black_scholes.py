"""Squared error of an option price: Black-Scholes, and the mean with a binomial tree."""

from math import erf, exp, log, sqrt

import numpy as np


def norm_cdf(x):
    return 0.5 * (1.0 + erf(x / sqrt(2.0)))


def black_scholes(S, K, T, r, sigma):
    d1 = (log(S / K) + (r + 0.5 * sigma**2) * T) / (sigma * sqrt(T))
    d2 = d1 - sigma * sqrt(T)
    return S * norm_cdf(d1) - K * exp(-r * T) * norm_cdf(d2)


def binomial(S, K, T, r, sigma, n=6):
    dt = T / n
    u = exp(sigma * sqrt(dt))
    p = (exp(r * dt) - 1 / u) / (u - 1 / u)
    values = [max(S * u ** (n - 2 * i) - K, 0.0) for i in range(n + 1)]
    for step in range(n):
        values = [exp(-r * dt) * (p * values[i] + (1 - p) * values[i + 1]) for i in range(n - step)]
    return values[0]


def loss(params, spot, strike, price):
    sigma, r = float(params["sigma"]), float(params["r"])
    model = 0.5 * (black_scholes(spot, strike, 0.75, r, sigma) + binomial(spot, strike, 0.75, r, sigma))
    return (model - price) ** 2


params = {"sigma": 0.35, "r": 0.02}
rng = np.random.default_rng(8)
examples = (rng.uniform(80, 120, 5), rng.uniform(85, 115, 5), rng.uniform(5, 20, 5))
