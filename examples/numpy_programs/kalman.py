"""Log-likelihood of positions under a constant-velocity Kalman filter."""

import numpy as np


class KalmanFilter:
    def __init__(self, q, r, dt=0.5):
        self.F = np.array([[1.0, dt], [0.0, 1.0]])
        self.H = np.array([[1.0, 0.0]])
        self.Q = q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        self.R = np.array([[r]])
        self.x = np.zeros(2)
        self.P = 10.0 * np.eye(2)

    def predict(self):
        self.x = self.F @ self.x
        self.P = self.F @ self.P @ self.F.T + self.Q

    def update(self, z):
        y = z - self.H @ self.x
        S = self.H @ self.P @ self.H.T + self.R
        K = self.P @ self.H.T @ np.linalg.inv(S)
        self.x = self.x + K @ y
        self.P = (np.eye(2) - K @ self.H) @ self.P
        return float(-0.5 * (y @ np.linalg.solve(S, y) + np.log(2 * np.pi * np.linalg.det(S))))


def loss(params, track):
    kf = KalmanFilter(np.exp(params[0]), np.exp(params[1]))
    total = 0.0
    for z in track:
        kf.predict()
        total += kf.update(np.array([z]))
    return -total / len(track)


params = np.array([-1.0, -0.5])
examples = np.cumsum(np.random.default_rng(0).normal(size=(5, 8)), axis=1)
