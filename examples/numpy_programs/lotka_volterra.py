"""Distance of a predator-prey trajectory, by Runge-Kutta steps, from observed populations."""

import numpy as np


def rhs(t, y, alpha, beta, delta, gamma):
    prey, predator = y
    return np.array([alpha * prey - beta * prey * predator, delta * prey * predator - gamma * predator])


def rk4(f, y0, ts, *args):
    ys = np.zeros((len(ts), len(y0)))
    ys[0] = y0
    for i in range(len(ts) - 1):
        t, h = ts[i], ts[i + 1] - ts[i]
        k1 = f(t, ys[i], *args)
        k2 = f(t + h / 2, ys[i] + h / 2 * k1, *args)
        k3 = f(t + h / 2, ys[i] + h / 2 * k2, *args)
        k4 = f(t + h, ys[i] + h * k3, *args)
        ys[i + 1] = ys[i] + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ys


def loss(params, start, observed):
    ts = np.linspace(0, 3, 13)
    ys = rk4(rhs, start, ts, *params)
    return np.mean((np.log(ys[::4]) - np.log(observed)) ** 2)


params = np.array([1.1, 0.4, 0.1, 0.4])
rng = np.random.default_rng(1)
examples = (rng.uniform(2, 8, size=(4, 2)), rng.uniform(1, 9, size=(4, 4, 2)))
